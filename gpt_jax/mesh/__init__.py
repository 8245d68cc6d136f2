"""Where arrays lie: the mesh of devices, the sharding of every tree, several processes, and what a run would take."""
