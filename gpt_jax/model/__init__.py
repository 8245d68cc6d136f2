"""What a GPT is: modules, their initial values, and what they cost. Nothing here knows of training or of devices."""
