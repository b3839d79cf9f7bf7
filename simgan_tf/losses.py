"""The terms of the objectives: tensors in, one float32 scalar out, one equation each.
A term's weight is applied by the method."""

import tensorflow as tf


def least_squares(scores: tf.Tensor, target: float) -> tf.Tensor:
    """Mean of (D - target)^2 over the batch: target 1 = real and matching, 0 = everything D must reject.

    scores: [B] float32, any range.
    Source: Eq. 1; Mao et al., Least Squares GANs.
    Differs: Eq. 4 is printed as a maximum over D of a sum that is small when D is good. As in LSGAN, D minimises the
    three terms of Eq. 1, and G minimises (D(x_hat) - 1)^2 in place of maximising the third.
    """
    return tf.reduce_mean(tf.square(scores - target))


def cross_entropy(logits: tf.Tensor, target: float) -> tf.Tensor:
    """Mean of -target log s - (1 - target) log(1 - s), s = sigmoid(logit): target 1 = real and matching, 0 = not.

    logits: [B] float32, any range; nothing overflows. Source: Goodfellow et al. 2014; GAN-CLS, SISGAN.
    """
    return tf.reduce_mean(tf.nn.relu(logits) - target * logits + tf.math.softplus(-tf.abs(logits)))


def log_cross_entropy(log_probabilities: tf.Tensor, target: float) -> tf.Tensor:
    """Mean of -target log p - (1 - target) log(1 - p), of log p: target 1 = it should be so, 0 = it should not.

    log_probabilities: [B] float32, at most 0. Source: TAGAN, of the words' fit.
    Differs: p counts as at most 1 - 1e-7, so that the logarithm of 1 - p is finite; TAGAN's code cuts it at -100.
    """
    log_not = tf.math.log(-tf.math.expm1(tf.minimum(log_probabilities, -1e-7)))
    return tf.reduce_mean(-target * log_probabilities - (1.0 - target) * log_not)


def l1(reconstructed: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference over batch, places and channels: ||x_tilde - x||_1 / (H W 3). Source: Eq. 2.

    reconstructed, image: [B, H, W, 3] float32 in [-1, 1].
    Differs: the mean, where the paper writes the norm, as in CycleGAN, whose weight of 10 the paper takes over.
    """
    return tf.reduce_mean(tf.abs(reconstructed - image))


def squared_error(found: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Mean of (found - wanted)^2 over all numbers of two tensors of one shape, float32.

    Source: Reed et al. 2016, Sec. 4.4, the style encoder. Differs: the mean over the noise's numbers, as in H. Dong's
    code, where the paper writes the squared norm.
    """
    return tf.reduce_mean(tf.square(found - wanted))


def kl_to_normal(mean: tf.Tensor, log_sigma: tf.Tensor) -> tf.Tensor:
    """KL(N(mean, sigma^2) || N(0, 1)), averaged over the batch and over dimensions.

    mean, log_sigma: [B, Z] float32; log_sigma is the log of sigma, not of its square.
        KL = 1/2 (sigma^2 + mean^2 - 1) - log sigma
    Source: Eq. 3. Differs: the mean over dimensions, as in StackGAN's and SISGAN's code (A22); a sum would be Z times
    stronger and silence the text.
    """
    return tf.reduce_mean(0.5 * (tf.exp(2.0 * log_sigma) + tf.square(mean) - 1.0) - log_sigma)
