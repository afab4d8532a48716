"""What makes the flows run somewhere: site files, the command line, blocks and deployments set up, packaging."""
