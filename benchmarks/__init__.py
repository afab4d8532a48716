"""Side by side with what people use today: each figure a ratio of two medians from one run.

make bench                    everything, less than half an hour on 2 cores; writes benchmarks/results.json
python -m benchmarks mariadb  only what begins so; the other results stay as they are
"""
