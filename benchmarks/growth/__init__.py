"""How time, memory and compilation grow with the length of a text, the number of layers and the width."""
