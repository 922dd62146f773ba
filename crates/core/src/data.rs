//! Fashion-MNIST.
