"""python -m devudp_training.evaluation (in a clone: python -m training.evaluation) ..."""

from .evaluate import main

main()
