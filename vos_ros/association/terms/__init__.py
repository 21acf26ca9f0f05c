"""Terms of evidence, one file each; ``vos_ros.association.registry`` finds them."""
