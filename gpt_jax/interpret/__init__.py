"""Looking inside a trained model: what its heads attend to, what its layers know, what depends on what."""
