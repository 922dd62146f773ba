//! The model card: what a model's folder says about itself, as the Hugging Face hub has it.

use crate::run::Run;
use crate::train::model::MODEL;
use anyhow::{Context, Result};
use elucidate_report::{
    Estimate, Figure, ScoredRun, Summary, TrainRow, is_there, read_csv, write_atomically,
};
use elucidate_samplers::Setting;
use elucidate_schedules::Preconditioning;
use std::fmt::Write;

/// Steps of the example.
const STEPS: usize = 18;

/// Writes README.md beside the UNet that the run trained: what it was trained on and how, its losses and FIDs, and how it is
/// sampled here and with diffusers alone. `preconditioning` is what its input, time and answer mean. Written once the model is
/// there, so that a run that is stopped while it samples has a card, and again with the samples.
///
/// # Errors
/// When a file of the run is damaged or cannot be written.
pub fn model_card(run: &Run, preconditioning: &Preconditioning) -> Result<()> {
    if !has_model(run) {
        return Ok(());
    }
    let predicts = format!("`{}`", serde_json::to_string(preconditioning)?);
    let parts = [
        front_matter("diffusers", "unconditional-image-generation"),
        training(run, "A `UNet2DModel` that denoises", &predicts)?,
        samples(run)?,
        usage(run, preconditioning)?,
        licence(),
    ];
    write(run, &parts)
}

/// Writes README.md beside the network of 22_noise_pred: what it was trained on and how, what it is used for, and its errors over
/// the test images: the mean squared error on logit ᾱ and the root of that on ᾱ.
///
/// # Errors
/// When a file of the run is damaged or cannot be written.
pub fn noise_level_card(run: &Run, mse: &Estimate, rmse_alpha_bar: f64) -> Result<()> {
    if !has_model(run) {
        return Ok(());
    }
    let folder = run.folder.path(MODEL).display().to_string();
    let parts = [
        front_matter("candle", "noise-level-estimation"),
        training(
            run,
            "A network that reads the noise level off",
            "logit ᾱ of x_t = √ᾱ·x/2 + √(1 − ᾱ)·ε, one number for each x_t",
        )?,
        format!(
            "## Errors\n\nOver {} test images, each noised several times: mean squared error on logit ᾱ {mse:.4} (± is half a 95 % interval, \
             over images), root mean squared error on ᾱ {rmse_alpha_bar:.4}.\n",
            run.settings.scoring.test_images
        ),
        format!(
            "## Use\n\nTo measure it again, and for the samples of 22_no_t:\n\n```sh\njust exp-22-noise-pred --checkpoint {folder}\n\
             just exp-22-no-t --noise-pred {folder}\n```\n\nIn Rust: `elucidate_lab::train::noise_level::NoiseLevelModel::load`. \
             diffusers has no such network; its weights are in `model.safetensors`, by name.\n"
        ),
        licence(),
    ];
    write(run, &parts)
}

/// Whether the run has a model of its own.
fn has_model(run: &Run) -> bool {
    run.folder.path(MODEL).is_dir()
}

fn write(run: &Run, parts: &[String]) -> Result<()> {
    let path = run.folder.path(MODEL).join("README.md");
    write_atomically(&path, parts.join("\n").as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn front_matter(library: &str, task: &str) -> String {
    format!(
        "---\nlibrary_name: {library}\nlicense: mit\ndatasets: [zalando-datasets/fashion_mnist]\n\
         tags: [{task}, diffusion, safetensors]\n---\n"
    )
}

fn training(run: &Run, what: &str, predicts: &str) -> Result<String> {
    let (record, training) = (&run.record, &run.settings.training);
    let mut text = format!(
        "# {} / {}\n\n{what} images of Fashion-MNIST, 32 × 32 with the images' 28 × 28 in the middle, one channel, pixels of [−1, 1]. It \
         has {} parameters.\n\n## Training\n\n",
        record.experiment, record.run, record.parameters
    );
    let mut line = |what: &str, value: &str| writeln!(text, "- {what}: {value}");
    line("data", &format!("the first {} of Fashion-MNIST's 60,000 training images", training.train_images))?;
    line("what it predicts", predicts)?;
    let weights = match training.ema_decay {
        0.0 => "these are the last weights".to_string(),
        decay => format!("these weights are their moving average (decay {decay})"),
    };
    line(
        "recipe",
        &format!(
            "{} epochs in batches of {}, Adam, one cycle with its peak at {}; {weights}; seed {}",
            training.epochs, training.batch_size, training.lr, run.settings.seed
        ),
    )?;
    let losses = run.folder.path("train.csv");
    let losses: Vec<TrainRow> = if is_there(&losses) { read_csv(&losses)? } else { vec![] };
    if let Some(last) = losses.last() {
        let tested = run.settings.scoring.test_images;
        line(
            "loss",
            &format!("{:.4} on the noised {tested} test images after {} images", last.test_loss, last.images),
        )?;
        let resumed = match record.resumed.len() {
            0 => String::new(),
            n => format!(", where the run began (resumed {n} ×, see run.json)"),
        };
        let minutes = last.seconds / 60.0;
        line(
            "time",
            &format!("{minutes:.1} minutes of training on {} ({}){resumed}", record.device, record.cpu),
        )?;
    }
    line("program", &format!("elucidate {}, revision {}", env!("CARGO_PKG_VERSION"), record.git_revision))?;
    Ok(text)
}

/// As the files of the run have them, also where it was gone on with.
fn samples(run: &Run) -> Result<String> {
    if !is_there(&run.folder.path("samples.csv")) {
        return Ok("## Samples\n\nNone yet.\n".to_string());
    }
    let scored = ScoredRun::read(run.folder.root())?;
    let mut text = format!(
        "## Samples\n\nFID and KID between features of a classifier of Fashion-MNIST (SHA-256 {}), against {} test images; ± is half a \
         95 % interval. They compare with each other and with the floor, real training images, and with nothing else.\n\n\
         | samples | number | evaluations | FID | KID |\n| --- | --- | --- | --- | --- |\n",
        run.record.classifier_sha256.get(..12).unwrap_or_default(),
        run.settings.scoring.test_images
    );
    for summary in Summary::all(&scored.rows) {
        let row = summary.first();
        let nfe = row.nfe.map_or_else(|| "–".to_string(), |nfe| nfe.to_string());
        let (fid, kid) = (summary.figure(Figure::Fid), summary.figure(Figure::Kid));
        let seeds = if summary.seeds() > 1 { format!(", {} seeds", summary.seeds()) } else { String::new() };
        writeln!(text, "| {} | {}{seeds} | {nfe} | {fid:.1} | {kid:.2} |", row.label(), row.n)?;
    }
    Ok(text)
}

/// How it is sampled, here and by Euler's method with diffusers alone, which cuts off the fraction of a time that is no tensor.
fn usage(run: &Run, preconditioning: &Preconditioning) -> Result<String> {
    let folder = run.folder.path(MODEL).display().to_string();
    let mut text = format!(
        "## Use\n\nHere (with the options that it was trained with, where they are not the experiment's defaults):\n\n```sh\njust exp-{} --checkpoint {folder}\n```\n\nWith diffusers alone, by Euler's \
         method; a row is a noise level σ and what makes a denoiser of the network there: \
         D(x; σ) = μ + c_skip·(x − μ) + c_out·F(c_in·(x − μ); c_noise).\n\n```python\nimport torch\nfrom diffusers import UNet2DModel\n\n\
         # sigma, c_skip, c_out, c_in, c_noise, mu\nsteps = [\n",
        run.record.experiment.replace('_', "-")
    );
    let setting = Setting::parse(&format!("euler steps={STEPS}"), preconditioning)?;
    for sigma in setting.sigma_steps.sigmas(&preconditioning.schedule, preconditioning.scale)? {
        let c = preconditioning.at(sigma);
        if sigma > 0.0 {
            let row = [sigma, c.c_skip, c.c_out, c.c_in, c.c_noise, c.mean].map(|v| format!("{v:.8}"));
            writeln!(text, "    ({}),", row.join(", "))?;
        }
    }
    writeln!(
        text,
        "]\nmodel = UNet2DModel.from_pretrained(\"{folder}\")\nx = steps[0][0] * torch.randn(16, 1, 32, 32)\nwith torch.no_grad():\n    \
         for (sigma, c_skip, c_out, c_in, c_noise, mu), (following, *_) in zip(steps, steps[1:] + [(0.0,)]):\n        \
         denoised = mu + c_skip * (x - mu) + c_out * model(c_in * (x - mu), torch.tensor(c_noise)).sample\n        \
         x = x + (following - sigma) * (x - denoised) / sigma\n```"
    )?;
    Ok(text)
}

fn licence() -> String {
    "## Licence\n\nMIT or Apache-2.0, at your choice; Fashion-MNIST is Zalando's, under MIT.\n".to_string()
}
