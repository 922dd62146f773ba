"""k-diffusion's samplers step by step, on data whose denoiser has a closed form.

    pip install torch torchvision scipy tqdm safetensors torchdiffeq torchsde && pip install --no-deps k-diffusion
"""

import contextlib
import importlib
import importlib.util
import sys
import types
from unittest import mock

import torch


def load_sampling():
    """k-diffusion's module `sampling` alone: the package itself imports all that its training needs."""
    package = types.ModuleType("k_diffusion")
    package.__path__ = importlib.util.find_spec("k_diffusion").submodule_search_locations
    sys.modules["k_diffusion"] = package
    return importlib.import_module("k_diffusion.sampling")


sampling = load_sampling()


def mixture(mean, std):
    """E[y | y + sigma n = x] for data from N(-mean, std^2)/2 + N(mean, std^2)/2, each element by itself."""

    def denoise(x, sigma):
        noise = sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2
        total = std**2 + noise
        means = [-mean, mean]
        weights = torch.stack([-((x - m) ** 2) / (2 * total) for m in means]).softmax(0)
        return sum(w * (std**2 * x + noise * m) / total for w, m in zip(weights, means))

    return denoise


def karras_sigmas(steps, rho, sigma_min, sigma_max, dtype):
    """The sigma steps (steps + 1); k-diffusion makes them in the default dtype."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return sampling.get_sigmas_karras(steps, sigma_min, sigma_max, rho)
    finally:
        torch.set_default_dtype(default)


def run(setting, denoise, x, sigmas, noise, part):
    """The end of one run. `part` of the churn: k-diffusion, too, spreads it over all steps that it is given."""
    setting = dict(setting)
    name = setting.pop("sampler")
    replayed = contextlib.nullcontext()
    draws = iter(noise)
    if name == "euler_ancestral":
        setting["noise_sampler"] = lambda sigma, sigma_next: next(draws)
    if setting.get("s_churn"):
        setting["s_churn"] *= part
        replayed = mock.patch.object(torch, "randn_like", lambda like: next(draws))
    with replayed:
        return getattr(sampling, f"sample_{name}")(denoise, x, sigmas, disable=True, **setting)


def step_by_step(setting, denoise, x, sigmas, noise):
    """x at the start and after each step (steps + 1, ...): runs over the first step, the first two and so on, each with
    the same `noise` (k, ...). `setting`: the sampler's name and its options, as k-diffusion names them."""
    steps = len(sigmas) - 1
    ends = [run(setting, denoise, x, sigmas[: n + 1], noise, n / steps) for n in range(1, steps + 1)]
    return torch.stack([x, *ends])
