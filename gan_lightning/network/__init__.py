"""Networks: pairs of a generator and a discriminator, and the layers that they share."""
