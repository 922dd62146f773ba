//! UNet2DModel.
