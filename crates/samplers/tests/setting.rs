//! A setting's text: it parses back, labels and file names are injective, and what is wrong is named.

use elucidate_samplers::{Levels, Sampler, Setting};
use elucidate_schedules::{Domain, NoiseInput, OptionInfo, Preconditioning, SigmaSteps};
use proptest::prelude::*;
use std::collections::HashMap;

/// A model whose default σ_max is 80 and whose scale is 1: labels say what differs from that.
fn edm() -> Preconditioning {
    Preconditioning::edm(0.66, NoiseInput::Sigma)
}

/// A value of an option, as text.
fn value(option: &OptionInfo) -> BoxedStrategy<String> {
    let number = |range: std::ops::Range<f64>| {
        prop_oneof![range.clone().prop_map(|v| v.to_string()), range.prop_map(|v| format!("{v:.1}"))].boxed()
    };
    match option.domain {
        Domain::Number(from, to) => number(from..to.min(100.0)),
        Domain::List(..) => falling().boxed(),
        Domain::Whole(from, to) => (from..=to.min(40)).prop_map(|v| v.to_string()).boxed(),
        Domain::Names(names) => prop::sample::select(names).prop_map(str::to_string).boxed(),
        other => unreachable!("no option is {other}"),
    }
}

/// σ that go down, few digits or many, few or many of them.
fn falling() -> impl Strategy<Value = String> {
    let sigma = prop_oneof![(1u32..300).prop_map(f64::from), 0.01f64..100.0];
    prop::collection::vec(sigma, 1..60).prop_map(|mut sigmas| {
        sigmas.sort_by(|a, b| b.total_cmp(a));
        sigmas.dedup();
        sigmas.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
    })
}

/// A setting of any sampler along any spacing, with some of its options given.
fn setting() -> impl Strategy<Value = Setting> {
    let samplers: Vec<usize> = (0..Sampler::ALL.len()).collect();
    let spacings: Vec<usize> = (0..SigmaSteps::ALL.len()).collect();
    (prop::sample::select(samplers), prop::sample::select(spacings)).prop_flat_map(|(sampler, spacing)| {
        let (info, spacing) = (&Sampler::ALL[sampler], &SigmaSteps::ALL[spacing]);
        let steps = (info.default)().levels() == Levels::Steps;
        let of_steps = spacing.options.iter().filter(|_| steps);
        let given: Vec<_> = info
            .options
            .iter()
            .chain(of_steps)
            .map(|option| (Just(option.name), any::<bool>(), value(option)))
            .collect();
        given.prop_filter_map("an impossible combination", move |given| {
            let given = given.into_iter().filter(|(name, kept, _)| *kept || *name == "sigmas");
            let mut given: Vec<(String, String)> =
                given.map(|(name, _, value)| (name.to_string(), value)).collect();
            if steps {
                given.push(("spacing".to_string(), spacing.name.to_string()));
            }
            Setting::from_options(info.name, &given, &edm()).ok()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn texts_and_labels_parse_back(setting in setting()) {
        prop_assert_eq!(Setting::parse(&setting.text(), &edm()).unwrap(), setting.clone());
        if let Ok(other) = Setting::parse(&setting.text(), &Preconditioning::lesson_eps(true)) {
            prop_assert_eq!(other, setting.clone());
        }
        if setting.label().len() < Setting::LONGEST_LABEL {
            prop_assert_eq!(Setting::parse(&setting.label(), &edm()).unwrap(), setting);
        }
    }

    #[test]
    fn settings_that_differ_share_neither_label_nor_file(all in prop::collection::vec(setting(), 2..40)) {
        let mut labels = HashMap::new();
        let mut files = HashMap::new();
        for setting in all {
            for (names, name) in [(&mut labels, setting.label()), (&mut files, setting.file_name())] {
                if let Some(other) = names.insert(name.clone(), setting.clone()) {
                    prop_assert_eq!(&other, &setting, "{} is the name of both", name);
                }
                prop_assert!(!name.contains('/'));
            }
            prop_assert!(setting.file_name().len() <= Setting::LONGEST_LABEL);
        }
    }
}

#[test]
fn labels_leave_out_what_is_at_its_default() {
    for (text, label) in [
        ("heun", "heun 20"),
        ("heun 20", "heun 20"),
        ("heun steps=50 s_churn=0.5 rho=7", "heun 50 s_churn=0.5"),
        ("heun steps=20 sigma_max=10", "heun 20 sigma_max=10"),
        ("lms steps=20 order=2", "lms 20 order=2"),
        ("lms steps=20 order=4", "lms 20"),
        ("euler steps=10 spacing=exponential", "euler 10 spacing=exponential"),
        ("euler steps=10 spacing=polyexponential rho=2", "euler 10 spacing=polyexponential rho=2"),
        ("euler steps=10 spacing=polyexponential", "euler 10 spacing=polyexponential"),
        ("euler spacing=list sigmas=10,1,0.1", "euler spacing=list sigmas=10,1,0.1"),
        (
            "ddim steps=100 spacing=ddim clamp=3 floor=0.01 scale=0.5",
            "ddim 100 clamp=3 floor=0.01 scale=0.5 spacing=ddim",
        ),
        ("euler spacing=uneven", "euler spacing=uneven"),
        ("euler spacing=exponential sigma_max=9", "euler 20 spacing=exponential sigma_max=9"),
        ("dpm_fast nfe=15", "dpm_fast nfe=15"),
        ("dpm_adaptive rtol=0.01", "dpm_adaptive rtol=0.01"),
    ] {
        let setting = Setting::parse(text, &edm()).unwrap();
        assert_eq!(setting.label(), label);
        assert_eq!(setting.file_name(), label.replace(' ', "_"));
    }
    let canonical = Setting::parse("heun steps=20 s_churn=0.5", &edm()).unwrap().text();
    let expected = "heun steps=20 s_churn=0.5 s_tmin=0 s_tmax=inf s_noise=1 spacing=karras rho=7 sigma_min=0.01 sigma_max=80";
    assert_eq!(canonical, expected);
}

#[test]
fn what_is_wrong_is_named() {
    for (text, what) in [
        ("", "there is no sampler \"\""),
        ("huen", "did you mean heun?"),
        ("dpmpp_3", "did you mean dpmpp_2"),
        ("euler eta=0.5", "euler has no option \"eta\""),
        ("heun s_chrun=1", "did you mean s_churn?"),
        ("dpm_fast steps=20", "dpm_fast has no option \"steps\""),
        ("dpm_adaptive spacing=linear", "dpm_adaptive has no option \"spacing\""),
        ("heun steps=20 20", "\"20\", word 3"),
        ("heun steps=20 churn", "\"churn\", word 3"),
        ("heun steps=20 steps=30", "steps is given twice"),
        ("heun steps=0", "steps=0 is impossible: give a whole number, 1 to 10000"),
        ("heun steps=1.5", "steps=1.5"),
        ("heun steps=1000000000000", "steps=1000000000000"),
        ("heun steps=", "steps="),
        ("heun rho=-1", "rho=-1 is impossible: give 0.001 to 1000"),
        ("heun sigma_max=1e300", "sigma_max=1e300"),
        ("lms order=5", "order=5 is impossible: give a whole number, 1 to 4"),
        ("euler_ancestral eta=nan", "eta=nan"),
        ("euler_ancestral eta=1.5", "eta=1.5 is impossible: give 0 to 1"),
        ("dpmpp_2m_sde solver_type=euler", "solver_type=euler is impossible: give midpoint or heun"),
        ("euler spacing=cubic", "spacing=cubic"),
        ("euler spacing=exponential rho=3", "euler has no option \"rho\""),
        ("euler spacing=list", "spacing=list"),
        ("euler spacing=list sigmas=3,x", "sigmas=3,x"),
        ("euler spacing=list sigmas=3,2 steps=5", "euler has no option \"steps\""),
        ("euler spacing=list sigmas=1e7,2", "sigmas=1e7,2"),
        ("euler spacing=list sigmas=2,3", "from 2 to 3 at step 1"),
        ("euler spacing=ddim sigma_max=3", "euler has no option \"sigma_max\""),
        ("ddim spacing=uneven steps=5", "ddim has no option \"steps\""),
        ("euler spacing=iddpm steps=2000", "fewer than steps=2000"),
        ("heun rho=0.001", "rho=0.001"),
        ("heun s_noise=inf", "s_noise=inf is impossible: give 0 to 1000"),
        ("ddim scale=inf", "scale=inf"),
        ("dpmpp_sde r=inf", "r=inf"),
        ("heun rho=1e300", "rho=1"),
        ("heun sigma_min=1e-40", "sigma_min=1e-40 is impossible: give 0.000001 to 1000000"),
        ("euler spacing=list sigmas=1,1e-100", "sigmas=1,1e-100"),
        ("ddim scale=1e-30", "scale=1e-30"),
        ("dpm_adaptive accept_safety=2", "accept_safety=2 is impossible: give 0 to 1"),
        ("dpm_adaptive rtol=inf", "rtol=inf"),
    ] {
        let error = Setting::parse(text, &edm()).unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn sigma_max_and_scale_are_the_models_where_they_are_not_given() {
    let model = Preconditioning { scale: 200.0, ..Preconditioning::lesson_eps(true) };
    let label = |text: &str| Setting::parse(text, &model).unwrap().label();
    assert_eq!(label("euler"), "euler 20 sigma_max=3.18");
    assert_eq!(label("ddim"), "ddim 20 scale=200 sigma_max=3.18");
    assert_eq!(label("ddim scale=1 sigma_max=80"), "ddim 20");
    assert_eq!(label("dpm_fast"), "dpm_fast sigma_max=3.18");
}

#[test]
fn the_label_of_the_noise_levels_says_what_is_not_at_its_default() {
    for (text, levels) in [
        ("heun 20 s_churn=3", "20 steps"),
        ("lms order=2 steps=9 rho=3 sigma_max=10", "9 steps, rho=3, sigma_max=10"),
        ("euler spacing=list sigmas=3,2", "spacing=list, sigmas=3,2"),
    ] {
        assert_eq!(Setting::parse(text, &edm()).unwrap().levels_label(), levels);
    }
}
