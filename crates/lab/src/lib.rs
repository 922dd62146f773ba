//! What the experiments share: options and presets, the run folder, the sample–score–record loop.
