"""The mesh of devices, the sharding of every tree, several processes, and the plan of a run before it starts."""
