"""How a model is measured beyond its loss: what it is asked, what is right, and figures with intervals."""
