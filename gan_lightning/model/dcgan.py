"""DCGAN: Unsupervised Representation Learning with Deep Convolutional GANs (Radford et al., 2016).

https://arxiv.org/abs/1511.06434
"""

from gan_lightning.model.gan import GAN


class DCGAN(GAN):
    r"""GAN with convolutional networks and the non-saturating loss.

    .. math:: L_D = -E[\log D(x)] - E[\log(1 - D(G(z)))], \qquad L_G = -E[\log D(G(z))].

    The paper changed the networks (section 3: strided convolutions, BatchNorm, ReLU in G and LeakyReLU in D) and their
    initialisation (section 4: weights from N(0, 0.02^2)), both in ``gan_lightning/network/dcgan.py``, and Adam's
    settings (learning rate 2e-4, beta_1 0.5), in ``conf/model/dcgan.yaml``. The authors' code updates G on the fakes of
    D's last update, hence ``reuse_fake: true``.
    """

    needs_convolutional_networks = "model=vanilla has the same loss for multilayer perceptrons"
