"""What a run writes about itself: metrics, trackers, the progress line, figures, the environment, goodput, the summary."""
