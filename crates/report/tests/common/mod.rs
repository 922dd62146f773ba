//! A row and a record to begin with.

use elucidate_report::{OtherModel, RunRecord, SCHEMA_VERSION, SampleRow, Session};

/// A row of heun, 20 steps, churn 0.5.
pub fn sample_row() -> SampleRow {
    SampleRow {
        experiment: "23_karras".into(),
        run: "quick".into(),
        sampler: "heun".into(),
        steps: Some(20),
        nfe: Some(39),
        rho: Some(7.0),
        sigma_min: Some(0.01),
        sigma_max: Some(80.0),
        eta: None,
        s_churn: Some(0.5),
        order: None,
        seed: 3,
        n: 2048,
        fid: 5.25,
        kid: -0.001,
        seconds: 12.5,
        kid_subsets_std_err: 0.0002,
        kid_chunks: 0.01,
        n_real: 10_000,
        preset: "quick".into(),
        epochs: 4,
        batch_size: 64,
        blocks: "16-32".into(),
        parameters: 1000,
        sigma_data: Some(0.66),
        data_sha256: "a".into(),
        classifier_sha256: "b".into(),
        checkpoint_sha256: "c".into(),
        git_revision: "d".into(),
        device: "cpu".into(),
        threads: 2,
        ..SampleRow::default()
    }
}

/// A record of the run `quick`.
pub fn record() -> RunRecord {
    let session = Session {
        started: "later".into(),
        git_revision: "def".into(),
        threads: 1,
        device: "cpu".into(),
        cpu: "some".into(),
    };
    let model = OtherModel { folder: "results/22_cosine/quick/model".into(), sha256: "c".into() };
    RunRecord {
        schema_version: SCHEMA_VERSION,
        experiment: "23_karras".into(),
        run: "quick".into(),
        command_line: vec!["exp".into()],
        working_folder: Some("../../..".into()),
        options: serde_json::json!({ "seed": 1 }),
        seed: 1,
        git_revision: "abc".into(),
        versions: [("candle".to_string(), "0.11".to_string())].into(),
        started: "now".into(),
        finished: None,
        resumed: vec![session],
        seconds: [("training".to_string(), 1.5)].into(),
        threads: 2,
        device: "cpu".into(),
        cpu: "some".into(),
        data_source: "data".into(),
        data_sha256: "a".into(),
        classifier_sha256: "b".into(),
        checkpoint_sha256: None,
        models: [("22_cosine".to_string(), model)].into(),
        parameters: 7,
        figures: [("data std".to_string(), 0.66)].into(),
    }
}
