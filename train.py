"""`python train.py model=wgan_gp data=celeba`; the program itself is gan_lightning/train.py."""

from gan_lightning.train import main

if __name__ == "__main__":
    main()
