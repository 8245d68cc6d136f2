"""Commands given to a cluster: jobs of SLURM, manifests for Kubernetes."""
