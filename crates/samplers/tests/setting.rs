//! A setting's text: it parses back, labels and file names are injective, and what is wrong is named.

use elucidate_samplers::{Domain, Levels, OptionInfo, Sampler, Setting};
use elucidate_schedules::Spacing;
use proptest::prelude::*;
use std::collections::HashMap;

/// A value of an option, as text.
fn value(option: &OptionInfo) -> BoxedStrategy<String> {
    let number = |range: std::ops::Range<f64>| {
        prop_oneof![range.clone().prop_map(|v| v.to_string()), range.prop_map(|v| format!("{v:.1}"))].boxed()
    };
    match option.domain {
        Domain::Number(from, to) => number(from..to.min(100.0)),
        Domain::Positive => number(0.1..50.0),
        Domain::Whole(from, to) => (from..=to.min(40)).prop_map(|v| v.to_string()).boxed(),
        Domain::Names(names) => prop::sample::select(names).prop_map(str::to_string).boxed(),
    }
}

/// A setting with some of its options given.
fn setting() -> impl Strategy<Value = Setting> {
    let samplers: Vec<usize> = (0..Sampler::ALL.len()).collect();
    prop::sample::select(samplers).prop_flat_map(|i| {
        let info = &Sampler::ALL[i];
        let mut options: Vec<OptionInfo> = info.options.to_vec();
        if (info.default)().levels() == Levels::Steps {
            let shared = ["steps", "rho", "sigma_min", "sigma_max"];
            options.extend(Setting::all_options().into_iter().filter(|o| shared.contains(&o.name)));
        }
        let given: Vec<_> =
            options.iter().map(|option| (Just(option.name), any::<bool>(), value(option))).collect();
        given.prop_filter_map("an impossible combination", move |given| {
            let given: Vec<(String, String)> = given
                .into_iter()
                .filter(|(_, kept, _)| *kept)
                .map(|(name, _, value)| (name.to_string(), value))
                .collect();
            Setting::from_options(info.name, &given, 80.0).ok()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn texts_and_labels_parse_back(setting in setting()) {
        prop_assert_eq!(Setting::parse(&setting.text(), 80.0).unwrap(), setting.clone());
        prop_assert_eq!(Setting::parse(&setting.text(), 3.0).unwrap(), setting.clone());
        prop_assert_eq!(Setting::parse(&setting.label(), 80.0).unwrap(), setting);
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
        ("euler spacing=list sigmas=10,1,0.1", "euler 20 spacing=list sigmas=10,1,0.1"),
        (
            "ddim steps=100 spacing=ddim clamp=3 floor=0.01 scale=0.5",
            "ddim 100 clamp=3 floor=0.01 scale=0.5 spacing=ddim",
        ),
        ("dpm_fast nfe=15", "dpm_fast nfe=15"),
        ("dpm_adaptive rtol=0.01", "dpm_adaptive rtol=0.01"),
    ] {
        let setting = Setting::parse(text, 80.0).unwrap();
        assert_eq!(setting.label(), label);
        assert_eq!(setting.file_name(), label.replace(' ', "_"));
    }
    let canonical = Setting::parse("heun steps=20 s_churn=0.5", 80.0).unwrap().text();
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
        ("heun steps=0", "steps=0 is impossible: give a whole number, 1 to 1000000"),
        ("heun steps=1.5", "steps=1.5"),
        ("heun steps=1000000000000", "steps=1000000000000"),
        ("heun steps=", "steps="),
        ("heun rho=-1", "rho=-1 is impossible: give a number above 0"),
        ("heun sigma_max=1e300", "sigma_max=1e300"),
        ("lms order=5", "order=5 is impossible: give a whole number, 1 to 4"),
        ("euler_ancestral eta=nan", "eta=nan"),
        ("euler_ancestral eta=1.5", "eta=1.5 is impossible: give 0 to 1"),
        ("dpmpp_2m_sde solver_type=euler", "solver_type=euler is impossible: give midpoint or heun"),
        ("euler spacing=cubic", "spacing=cubic"),
        ("euler spacing=exponential rho=3", "euler has no option \"rho\""),
        ("euler spacing=list", "spacing=list"),
        ("euler spacing=list sigmas=3,x", "sigmas=3,x"),
    ] {
        let error = Setting::parse(text, 80.0).unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn sigma_max_is_the_models_where_it_is_not_given() {
    let setting = Setting::parse("euler", 12.5).unwrap();
    assert_eq!(setting.sigma_steps.sigma_max, 12.5);
    assert_eq!(setting.label(), "euler 20 sigma_max=12.5");
    assert_eq!(setting.sigma_steps.spacing, Spacing::Karras { rho: 7.0 });
}
