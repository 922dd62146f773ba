//! Model folders as diffusers and people leave them: variants, shards, pipelines, older names, keys of later versions. What is
//! not read is refused in one line that says what is there.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use elucidate_core::unet::{ModelFiles, WEIGHTS, load_model};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";
const SHARDS: [&str; 2] = [
    "diffusion_pytorch_model-00001-of-00002.safetensors",
    "diffusion_pytorch_model-00002-of-00002.safetensors",
];

type Named = HashMap<String, Tensor>;

/// A copy of a fixture's config.json and its weights.
fn model() -> Result<(TempDir, Named)> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/unet/mixed_levels");
    let dir = tempfile::tempdir()?;
    fs::copy(fixture.join("config.json"), dir.path().join("config.json"))?;
    Ok((dir, candle_core::safetensors::load(fixture.join(WEIGHTS), &Device::Cpu)?))
}

fn write(tensors: &Named, dir: &Path, name: &str) -> Result<()> {
    Ok(candle_core::safetensors::save(tensors, dir.join(name))?)
}

/// What stands for other weights.
fn zeros(tensors: &Named) -> Result<Named> {
    tensors.iter().map(|(name, t)| Ok((name.clone(), t.zeros_like()?))).collect()
}

fn assert_loads(dir: &Path, tensors: &Named) -> Result<()> {
    let (_, loaded) = load_model(dir, &Device::Cpu)?;
    assert_eq!(loaded.len(), tensors.len());
    for (name, tensor) in tensors {
        let difference = (loaded.get(name).context(name.clone())? - tensor)?.abs()?.flatten_all()?.max(0)?;
        assert_eq!(difference.to_scalar::<f32>()?, 0.0, "{name}");
    }
    Ok(())
}

fn refusal(dir: &Path) -> String {
    let refusal = format!("{:#}", load_model(dir, &Device::Cpu).expect_err("it loads"));
    assert_eq!(refusal.lines().count(), 1, "{refusal}");
    refusal
}

#[track_caller]
fn assert_refused(dir: &Path, parts: &[&str]) {
    let refusal = refusal(dir);
    for part in parts {
        assert!(refusal.contains(part), "{part} is not in: {refusal}");
    }
}

fn change_config(dir: &Path, changes: Value) -> Result<()> {
    let path = dir.join("config.json");
    let mut config: Map<String, Value> = serde_json::from_slice(&fs::read(&path)?)?;
    let Value::Object(changes) = changes else { panic!("{changes} is not an object") };
    config.extend(changes);
    Ok(fs::write(path, json!(config).to_string())?)
}

#[test]
fn the_only_variant_is_taken_and_the_plain_name_wins() -> Result<()> {
    let (dir, tensors) = model()?;
    let dir = dir.path();
    let half: Named =
        tensors.iter().map(|(name, t)| Ok((name.clone(), t.to_dtype(DType::F16)?))).collect::<Result<_>>()?;
    let rounded: Named =
        half.iter().map(|(name, t)| Ok((name.clone(), t.to_dtype(DType::F32)?))).collect::<Result<_>>()?;
    write(&half, dir, "diffusion_pytorch_model.fp16.safetensors")?;
    assert_loads(dir, &rounded)?;

    write(&zeros(&tensors)?, dir, "diffusion_pytorch_model.non_ema.safetensors")?;
    assert_refused(dir, &["diffusion_pytorch_model.fp16.safetensors and", "non_ema", WEIGHTS]);
    write(&tensors, dir, WEIGHTS)?;
    assert_loads(dir, &tensors)
}

/// Writes the tensors into two shards, by turns, and returns the map of an index.
fn write_shards(tensors: &Named, dir: &Path) -> Result<Map<String, Value>> {
    let mut names: Vec<&String> = tensors.keys().collect();
    names.sort();
    let mut shards = [Named::new(), Named::new()];
    let mut map = Map::new();
    for (i, name) in names.into_iter().enumerate() {
        shards[i % 2].insert(name.clone(), tensors[name].clone());
        map.insert(name.clone(), json!(SHARDS[i % 2]));
    }
    for (shard, name) in shards.iter().zip(SHARDS) {
        write(shard, dir, name)?;
    }
    Ok(map)
}

fn write_index(dir: &Path, name: &str, map: &Map<String, Value>) -> Result<()> {
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    Ok(fs::write(dir.join(name), index.to_string())?)
}

#[test]
fn the_shards_of_an_index_are_put_together() -> Result<()> {
    let (dir, tensors) = model()?;
    let dir = dir.path();
    let map = write_shards(&tensors, dir)?;
    assert_refused(dir, &[WEIGHTS, "is not there", SHARDS[0]]);
    // As diffusers names the index of a variant, and as it once did.
    for name in [
        "diffusion_pytorch_model.safetensors.index.zip.json",
        "diffusion_pytorch_model.safetensors.zip.index.json",
        INDEX,
    ] {
        write_index(dir, name, &map)?;
        // Beside an index, diffusers passes over a file in one piece.
        let whole = if name == INDEX { WEIGHTS } else { "diffusion_pytorch_model.zip.safetensors" };
        write(&zeros(&tensors)?, dir, whole)?;
        assert_loads(dir, &tensors).context(name)?;
        assert_eq!(ModelFiles::find(dir)?.weights(), SHARDS.map(|shard| dir.join(shard)), "{name}");
        fs::remove_file(dir.join(name))?;
        fs::remove_file(dir.join(whole))?;
    }
    Ok(())
}

#[test]
fn an_index_that_lies_is_refused() -> Result<()> {
    let (dir, tensors) = model()?;
    let dir = &dir.path().join("model");
    fs::create_dir(dir)?;
    fs::copy(dir.with_file_name("config.json"), dir.join("config.json"))?;
    let map = write_shards(&tensors, dir)?;
    // The tensors are there; the way to them is not one that a folder may ask for.
    write(&tensors, dir.parent().context("a parent")?, "outside.safetensors")?;
    let outside = dir.with_file_name("outside.safetensors");
    fs::create_dir(dir.join("below"))?;
    fs::copy(&outside, dir.join("below/inside.safetensors"))?;
    for file in
        ["../outside.safetensors", &outside.display().to_string(), "below/inside.safetensors", "..", ".", ""]
    {
        write_index(dir, INDEX, &map.keys().map(|name| (name.clone(), json!(file))).collect())?;
        assert_refused(dir, &[INDEX, &format!("{file:?}"), "not a file of its folder"]);
    }
    let with = |name: &str, file: &str| {
        let mut map = map.clone();
        map.insert(name.to_string(), json!(file));
        write_index(dir, INDEX, &map)
    };
    with("conv_out.bias", "missing.safetensors")?;
    assert_refused(dir, &["cannot read", "missing.safetensors"]);
    with("conv_out.nothing", SHARDS[0])?;
    assert_refused(dir, &[SHARDS[0], "conv_out.nothing"]);
    write_index(dir, INDEX, &Map::new())?;
    assert_refused(dir, &[INDEX, "names no file"]);
    fs::write(dir.join(INDEX), "{}")?;
    assert_refused(dir, &[INDEX, "weight_map"]);

    write_index(dir, INDEX, &map)?;
    assert_loads(dir, &tensors)?;
    write(&tensors, dir, SHARDS[1])?;
    assert_refused(dir, &[SHARDS[1], "is there twice"]);
    fs::remove_file(dir.join(SHARDS[1]))?;
    assert_refused(dir, &["cannot read", SHARDS[1]]);
    Ok(())
}

#[test]
fn a_pipelines_model_is_in_unet() -> Result<()> {
    let (model, tensors) = model()?;
    write(&tensors, model.path(), WEIGHTS)?;
    let pipeline = tempfile::tempdir()?;
    fs::write(pipeline.path().join("model_index.json"), r#"{"_class_name": "DDPMPipeline"}"#)?;
    fs::create_dir(pipeline.path().join("scheduler"))?;
    assert_refused(pipeline.path(), &["config.json", "model_index.json, scheduler"]);
    let unet = pipeline.path().join("unet");
    fs::create_dir(&unet)?;
    for name in ["config.json", WEIGHTS] {
        fs::copy(model.path().join(name), unet.join(name))?;
    }
    assert_loads(pipeline.path(), &tensors)?;
    assert_eq!(ModelFiles::find(pipeline.path())?.dir(), unet);
    Ok(())
}

#[test]
fn what_is_there_instead_of_weights_is_named() -> Result<()> {
    let (dir, tensors) = model()?;
    let dir = dir.path();
    assert!(refusal(dir).ends_with("diffusion_pytorch_model.safetensors is not there"), "{}", refusal(dir));
    fs::write(dir.join("diffusion_flax_model.msgpack"), "")?;
    assert_refused(dir, &[WEIGHTS, "only diffusion_flax_model.msgpack is there"]);
    fs::write(dir.join("diffusion_pytorch_model.bin"), "")?;
    assert_refused(dir, &["only diffusion_pytorch_model.bin is there, a pickle: save it as safetensors"]);
    write(&tensors, dir, WEIGHTS)?;
    assert_loads(dir, &tensors)
}

#[test]
fn the_older_names_of_attention_are_todays() -> Result<()> {
    let (dir, tensors) = model()?;
    let dir = dir.path();
    let names = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
    let older = |name: &str| {
        names.iter().fold(name.to_string(), |name, (today, older)| {
            name.replace(&format!(".{today}."), &format!(".{older}."))
        })
    };
    let old: Named = tensors.iter().map(|(name, tensor)| (older(name), tensor.clone())).collect();
    assert!(old.contains_key("mid_block.attentions.0.proj_attn.weight"), "{:?}", old.keys());
    write(&old, dir, WEIGHTS)?;
    assert_loads(dir, &tensors)?;

    let both: Named = tensors.into_iter().chain(old).collect();
    write(&both, dir, WEIGHTS)?;
    assert_refused(dir, &[WEIGHTS, "parameter", "is there twice"]);
    Ok(())
}

/// What is logged, to be read by the test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no thread panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn keys_that_diffusers_lacks_are_warned_of_and_passed_over() -> Result<()> {
    let (dir, tensors) = model()?;
    write(&tensors, dir.path(), WEIGHTS)?;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || -> Result<()> {
        assert_loads(dir.path(), &tensors)?;
        assert!(log.0.lock().expect("no thread panics").is_empty(), "nothing to warn of");
        // As diffusers' `EMAModel.save_pretrained` writes them.
        let average = json!({ "decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 100, "power": 0.75,
                              "update_after_step": 0, "use_ema_warmup": false, "of a\nlater version": [1] });
        change_config(dir.path(), average)?;
        assert_loads(dir.path(), &tensors)
    })?;
    let log = String::from_utf8(log.0.lock().expect("no thread panics").clone())?;
    assert_eq!(log.lines().count(), 1, "{log}");
    let keys = "decay, inv_gamma, min_decay, of a\\nlater version, optimization_step, power, update_after_step, \
                use_ema_warmup";
    assert!(log.contains("WARN") && log.contains("config.json") && log.contains(keys), "{log}");
    Ok(())
}

#[test]
fn keys_that_ask_for_another_network_are_refused_by_name() -> Result<()> {
    for (key, value) in [
        ("_class_name", json!("UNet2DConditionModel")),
        ("act_fn", json!("gelu")),
        ("attn_norm_num_groups", json!(0)),
        ("attn_norm_num_groups", json!(3)),
        ("class_embed_type", json!("timestep")),
        ("downsample_padding", json!(2)),
        ("downsample_type", json!("resnet")),
        ("mid_block_type", Value::Null),
        ("num_class_embeds", json!(10)),
        ("resnet_time_scale_shift", json!("scale_shift")),
        ("time_embedding_dim", json!(64)),
        ("time_embedding_type", json!("fourier")),
        ("upsample_type", json!("resnet")),
    ] {
        let (dir, tensors) = model()?;
        write(&tensors, dir.path(), WEIGHTS)?;
        change_config(dir.path(), json!({ key: value }))?;
        assert_refused(dir.path(), &["config.json", key]);
    }
    Ok(())
}
