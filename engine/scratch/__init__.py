"""Throwaway database servers for replays and drills: private, with no way out, journalled before they are made."""
