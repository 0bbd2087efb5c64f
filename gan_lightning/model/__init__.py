"""Models: six GAN variants and a VAE baseline, one file each."""
