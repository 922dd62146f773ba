set positional-arguments

[private]
default:
    @just --list --unsorted

# Fetch Fashion-MNIST into data/fashion-mnist where it is not on this machine yet, and anew what is damaged there
[group('experiments')]
data:
    @scripts/fetch-data.sh

# The cosine schedule: train, sample with DDIM and with Karras's samplers, score, draw (options: just exp-22-cosine --help)
[group('experiments')]
exp-22-cosine *ARGS: data
    cargo run --release -p exp-22-cosine -- "$@"

# Predicting the noise level: train, measure against constants and without the logit, draw
[group('experiments')]
exp-22-noise-pred *ARGS: data
    cargo run --release -p exp-22-noise-pred -- "$@"

# Diffusion without t: train, sample plainly and with estimates of the noise level (makes the other two's models if need be)
[group('experiments')]
exp-22-no-t *ARGS: data
    @ls results/22_cosine/*/model/config.json >/dev/null 2>&1 || {{ just_executable() }} exp-22-cosine
    @ls results/22_noise_pred/*/model/config.json >/dev/null 2>&1 || {{ just_executable() }} exp-22-noise-pred
    cargo run --release -p exp-22-no-t -- "$@"

# Karras preconditioning: train, sample with every sampler, score, draw (options: just exp-23-karras --help)
[group('experiments')]
exp-23-karras *ARGS: data
    cargo run --release -p exp-23-karras -- "$@"

# Any prediction, noise schedule, scale of the data and sampler (just exp-design-space --prediction v --schedule "sigmoid tau=0.9")
[group('experiments')]
exp-design-space *ARGS: data
    cargo run --release -p exp-design-space -- "$@"

# Samplers by their error on the ODE itself: for the ideal denoiser of the training images, and for a model of exp-23-karras
[group('experiments')]
exp-truncation *ARGS: data
    @ls results/23_karras/*/model/config.json >/dev/null 2>&1 || {{ just_executable() }} exp-23-karras
    cargo run --release -p exp-truncation -- "$@"

# Samples of a model that is committed, without training, 96 unless --samples says otherwise (options: just exp-23-karras --help)
[group('experiments')]
sample *ARGS: data
    cargo run --release -p exp-23-karras -- --checkpoint results/23_karras/long/model --setting "dpmpp_2m_sde steps=36" \
        $(case " $* " in *" --samples"*) ;; *) echo --samples 96 ;; esac) "$@"

# Run what a sweep's file describes, as far as it is missing, and merge its tables (just sweep FILE --plan)
[group('experiments')]
sweep FILE *ARGS: data
    cargo build --release -q -p elucidate-sweep -p 'exp-*'
    target/release/sweep "$@"

# The runs in results/, or in another folder: when, how trained, their loss, the setting with the best FID
[group('results')]
list *ARGS:
    @cargo run --release -q -p elucidate-report -- list "$@"

# Which settings of runs differ by more than their errors; of one run, its settings (just compare RUN RUN…)
[group('results')]
compare *ARGS:
    cargo run --release -q -p elucidate-report -- compare "$@"

# Whether the errors of FID and KID are what seeds scatter by (just check-errors results/23_karras/20-seeds)
[group('results')]
check-errors *ARGS:
    cargo run --release -q -p elucidate-report -- check-errors "$@"

# What FID is moved by: another training, another seed of sampling, the rest (just components RUN RUN…)
[group('results')]
components *ARGS:
    cargo run --release -q -p elucidate-report -- components "$@"

# A page about a run, or about several side by side: one HTML file to look at and to send (just report RUN RUN…)
[group('results')]
report *ARGS:
    cargo run --release -q -p elucidate-report -- report "$@"

# Draw every chart again from its CSV: of all runs, or of those given
[group('results')]
plots *ARGS:
    cargo run --release -q -p elucidate-report -- plots "$@"

# FID by ρ of any number of runs in one picture
[group('results')]
plot-rho *ARGS:
    cargo run --release -q -p elucidate-report -- plot-rho "$@"

# FID by sampler of any number of runs in one picture
[group('results')]
plot-samplers *ARGS:
    cargo run --release -q -p elucidate-report -- plot-samplers "$@"

# Train the classifier whose features FID and KID use, and overwrite its committed weights
[group('experiments')]
train-classifier *ARGS: data
    cargo run --release -p elucidate-metrics --bin train-classifier -- "$@"

# Run all tests
[group('development')]
test *ARGS: data
    cargo test --workspace "$@"

# Kill smoke runs over and over, go on with them, and compare them with runs that nobody disturbed
[group('development')]
torture: data
    cargo test --release -p exp-23-karras --test torture -- --include-ignored --nocapture --test-threads 1

# Check formatting, lints and documentation
[group('development')]
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Check licences, duplicate versions, sources and advisories of all dependencies
[group('development')]
deny:
    scripts/deny.sh

# Time the kernels, training steps and sampling (one UNet alone: just bench --preset lesson --batch-size 64 …)
[group('development')]
bench *ARGS:
    scripts/bench.sh "$@"

# Time them in alternation with PyTorch, fetched into target/ (options: --candle, --bf16, --rounds 3, --blocks 16,32,64 …)
[group('development')]
bench-torch *ARGS:
    scripts/bench-torch.sh "$@"

# Compile with CUDA's kernels, GPU or not (fetches NVIDIA's compiler as Python packages)
[group('development')]
check-cuda:
    scripts/check-cuda.sh

# Build the experiments with CUDA, on a machine with or without a GPU, to be carried to one that has it (just build-cuda cudnn)
[group('development')]
build-cuda *FEATURE:
    scripts/build-cuda.sh "$@"

# Compile with the Hugging Face hub's client, which `just data` uses at last
[group('development')]
check-hub:
    cargo clippy -p elucidate-core --all-targets --features hub -- -D warnings

# Compare FID, KID, UNet, samplers and optimiser with other software, fetched into target/ (--seed N repeats a check)
[group('development')]
check-references *ARGS:
    scripts/check-references.sh "$@"

# Train every prediction along every noise schedule at smoke size and sample each: a table of their losses
[group('development')]
check-design-space *ARGS: data
    scripts/check-design-space.sh "$@"

# Run a sweep on a Slurm that is made on this machine, Debian's, as root: with a time limit, a killed task, and its table compared
[group('development')]
check-slurm: data
    scripts/check-slurm.sh

# Completions of a shell (bash, elvish, fish, powershell, zsh) for every program, into target/completions
[group('development')]
completions SHELL="bash":
    cargo build --release -q -p elucidate-report -p elucidate-sweep -p 'exp-*'
    mkdir -p target/completions
    for program in elucidate sweep $(cd target/release && ls exp-* | grep -v '\.'); do \
        COMPLETE={{SHELL}} target/release/$program > target/completions/$program.{{SHELL}}; \
    done
    @echo "target/completions/*.{{SHELL}}: for bash, as in: source target/completions/elucidate.bash"

# Read the event files of a run that is killed twice with TensorBoard's own reader
[group('development')]
check-tensorboard: data
    scripts/check-tensorboard.sh

# Open the pages of runs in headless Chromium: nothing is loaded, nothing missing, nothing too wide
[group('development')]
check-report *RUNS:
    scripts/check-report.sh "$@"

# Make the fixtures of the tests anew with PyTorch, diffusers, k-diffusion and NumPy
[group('development')]
fixtures:
    scripts/make-fixtures.sh
