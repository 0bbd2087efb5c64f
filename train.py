"""`python train.py model=wgan_gp data=celeba`; the program itself is gan_lightning/cli/train.py."""

from gan_lightning.cli.train import main

if __name__ == "__main__":
    main()
