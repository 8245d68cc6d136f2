"""What is looked at in every step beside the loss: whether it is finite, the size of tensors, the noise of
gradients; and that no phase of a launch takes too long."""
