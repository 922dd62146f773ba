[private]
default:
    @just --list --unsorted

# Fetch Fashion-MNIST into data/fashion-mnist, where it is not on this machine yet
[group('experiments')]
data:
    @scripts/fetch-data.sh

# Karras preconditioning: train, sample with every sampler, score, draw (options: just exp-23-karras --help)
[group('experiments')]
exp-23-karras *ARGS: data
    cargo run --release -p exp-23-karras -- {{ ARGS }}

# Train the classifier whose features FID and KID use, and overwrite its committed weights
[group('experiments')]
train-classifier *ARGS: data
    cargo run --release -p elucidate-metrics --bin train-classifier -- {{ ARGS }}

# Run all tests
[group('development')]
test *ARGS: data
    cargo test --workspace {{ ARGS }}

# Check formatting, lints and documentation
[group('development')]
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Time the kernels, training steps and sampling (one UNet alone: just bench --preset lesson --batch-size 64 …)
[group('development')]
bench *ARGS:
    scripts/bench.sh {{ ARGS }}

# Time them in alternation with PyTorch, fetched into target/ (options: --candle, --bf16, --rounds 3, --blocks 16,32,64 …)
[group('development')]
bench-torch *ARGS:
    scripts/bench-torch.sh {{ ARGS }}

# Compile with CUDA's kernels, GPU or not (fetches NVIDIA's compiler as Python packages)
[group('development')]
check-cuda:
    scripts/check-cuda.sh

# Make the fixtures of the tests anew with PyTorch, diffusers and NumPy
[group('development')]
fixtures:
    scripts/make-fixtures.sh
