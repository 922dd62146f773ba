//! The configuration of a UNet, as diffusers writes it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// No number of channels, layers or groups may be larger: products of three still fit, and lists of layers stay short.
const LARGEST: usize = 1 << 16;

/// What diffusers calls the network.
pub(super) const CLASS: &str = "UNet2DModel";

/// A level on the way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownBlock {
    /// Residual blocks.
    DownBlock2D,
    /// Residual blocks, each with attention after it.
    AttnDownBlock2D,
}

/// A level on the way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpBlock {
    /// Residual blocks.
    UpBlock2D,
    /// Residual blocks, each with attention after it.
    AttnUpBlock2D,
}

/// The configuration of diffusers' `UNet2DModel`: its keys, its defaults. A key of diffusers' that is not here is accepted
/// with the value that diffusers has by default, and refused with any other; a key that diffusers does not have either is
/// passed over, as diffusers does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UNet2DConfig {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Whether the input is taken from \[0,1\] to \[−1,1\] first.
    pub center_input_sample: bool,
    /// Subtracted from the number of frequencies of the time embedding.
    pub freq_shift: f64,
    /// Whether the time embedding's cosines come before its sines.
    pub flip_sin_to_cos: bool,
    /// The levels on the way down.
    pub down_block_types: Vec<DownBlock>,
    /// The levels on the way up, the deepest first.
    pub up_block_types: Vec<UpBlock>,
    /// Channels at each level, from the top.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks at each level; one more on the way up.
    pub layers_per_block: usize,
    /// What the middle block's sums are divided by.
    pub mid_block_scale_factor: f64,
    /// Width of an attention head; nothing for one head over all channels.
    pub attention_head_dim: Option<usize>,
    /// Zeros around the maps when they are downsampled: 1 on each side, or 0, where diffusers adds a row below and a column
    /// on the right.
    pub downsample_padding: usize,
    /// Groups of every group norm.
    pub norm_num_groups: usize,
    /// Groups of the group norm of the middle block's attention; nothing for `norm_num_groups`.
    pub attn_norm_num_groups: Option<usize>,
    /// Added to the variance in every group norm.
    pub norm_eps: f64,
    /// Whether the middle block has attention.
    pub add_attention: bool,
    /// All the other keys.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

impl Default for UNet2DConfig {
    fn default() -> Self {
        use DownBlock::{AttnDownBlock2D, DownBlock2D};
        use UpBlock::{AttnUpBlock2D, UpBlock2D};
        Self {
            in_channels: 3,
            out_channels: 3,
            center_input_sample: false,
            freq_shift: 0.0,
            flip_sin_to_cos: true,
            down_block_types: vec![DownBlock2D, AttnDownBlock2D, AttnDownBlock2D, AttnDownBlock2D],
            up_block_types: vec![AttnUpBlock2D, AttnUpBlock2D, AttnUpBlock2D, UpBlock2D],
            block_out_channels: vec![224, 448, 672, 896],
            layers_per_block: 2,
            mid_block_scale_factor: 1.0,
            attention_head_dim: Some(8),
            downsample_padding: 1,
            norm_num_groups: 32,
            attn_norm_num_groups: None,
            norm_eps: 1e-5,
            add_attention: true,
            others: Map::new(),
        }
    }
}

impl UNet2DConfig {
    /// The lesson's UNet for grey images: (32, 64, 128, 256) channels, 8 norm groups, attention at all levels but the
    /// first; 15,890,753 parameters.
    pub fn lesson() -> Self {
        Self::with_blocks(&[32, 64, 128, 256], 2, &[1, 2, 3])
    }

    /// The lesson's UNet with other channels, residual blocks a level, and levels with attention (counted from the
    /// top, 0). The middle block has attention where any level has.
    pub fn with_blocks(block_out_channels: &[usize], layers_per_block: usize, attention: &[usize]) -> Self {
        let levels = 0..block_out_channels.len();
        let down = |level| match attention.contains(&level) {
            true => DownBlock::AttnDownBlock2D,
            false => DownBlock::DownBlock2D,
        };
        let up = |level| match attention.contains(&level) {
            true => UpBlock::AttnUpBlock2D,
            false => UpBlock::UpBlock2D,
        };
        Self {
            in_channels: 1,
            out_channels: 1,
            down_block_types: levels.clone().map(down).collect(),
            up_block_types: levels.rev().map(up).collect(),
            block_out_channels: block_out_channels.to_vec(),
            layers_per_block,
            norm_num_groups: 8,
            add_attention: !attention.is_empty(),
            ..Self::default()
        }
    }

    /// Finds what makes a configuration impossible, or other than what is built here.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn check(&self) -> Result<(), String> {
        let levels = self.block_out_channels.len();
        if levels == 0 || self.down_block_types.len() != levels || self.up_block_types.len() != levels {
            return Err(format!(
                "block_out_channels, down_block_types and up_block_types have {levels}, {} and {} entries: they need as \
                 many, at least one",
                self.down_block_types.len(),
                self.up_block_types.len()
            ));
        }
        let sizes = [self.in_channels, self.out_channels, self.layers_per_block, self.norm_num_groups];
        if sizes.contains(&0) || [self.attention_head_dim, self.attn_norm_num_groups].contains(&Some(0)) {
            return Err(
                "in_channels, out_channels, layers_per_block, norm_num_groups, attn_norm_num_groups and \
                        attention_head_dim must be above 0"
                    .to_string(),
            );
        }
        let sizes = sizes.iter().chain(&self.block_out_channels).chain(&self.attention_head_dim);
        if sizes.max() > Some(&LARGEST) {
            return Err(format!("a number of channels, layers, groups or head channels is above {LARGEST}"));
        }
        if !(self.norm_eps >= 0.0 && self.mid_block_scale_factor > 0.0) {
            return Err("norm_eps must be at least 0 and mid_block_scale_factor above 0".to_string());
        }
        for &channels in &self.block_out_channels {
            if channels == 0 || channels % self.norm_num_groups != 0 {
                return Err(format!(
                    "block_out_channels {channels} is not a multiple of norm_num_groups {}",
                    self.norm_num_groups
                ));
            }
        }
        let deepest = self.block_out_channels[levels - 1];
        match self.attn_norm_num_groups {
            Some(groups) if self.add_attention && !deepest.is_multiple_of(groups) => {
                return Err(format!(
                    "block_out_channels {deepest} is not a multiple of attn_norm_num_groups {groups}"
                ));
            }
            _ => {}
        }
        if self.downsample_padding > 1 {
            return Err(format!("downsample_padding = {} is not supported", self.downsample_padding));
        }
        let half = self.block_out_channels[0] / 2;
        if half as f64 <= self.freq_shift {
            return Err(format!("freq_shift {} leaves none of {half} frequencies", self.freq_shift));
        }
        self.check_others()
    }

    fn check_others(&self) -> Result<(), String> {
        let refused = |(key, value): &(&String, &Value)| is_supported(key, value) == Some(false);
        match self.others.iter().find(refused) {
            Some((key, value)) => Err(format!("{key} = {value} is not supported")),
            None => Ok(()),
        }
    }

    /// The keys that diffusers' `UNet2DModel` does not have, as far as is known here: a moving average's, or a newer
    /// version's. The network is built without them.
    pub fn unknown_keys(&self) -> Vec<&str> {
        self.others
            .iter()
            .filter(|(key, value)| is_supported(key, value).is_none())
            .map(|(key, _)| key.as_str())
            .collect()
    }
}

/// Whether the network that is built here is the one that a key of diffusers' asks for; nothing for other keys.
fn is_supported(key: &str, value: &Value) -> Option<bool> {
    Some(match key {
        "_class_name" => value == CLASS,
        "sample_size" | "dropout" | "num_train_timesteps" => true,
        key if key.starts_with('_') => true,
        "time_embedding_type" => value == "positional",
        "downsample_type" | "upsample_type" => value == "conv",
        "act_fn" => value == "silu" || value == "swish",
        "resnet_time_scale_shift" => value == "default",
        "mid_block_type" => value == "UNetMidBlock2D",
        "class_embed_type" | "num_class_embeds" | "time_embedding_dim" => value.is_null(),
        _ => return None,
    })
}
