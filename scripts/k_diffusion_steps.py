"""k-diffusion's samplers step by step, on data whose denoiser has a closed form.

    pip install torch torchvision scipy tqdm safetensors torchdiffeq torchsde && pip install --no-deps k-diffusion
"""

import importlib
import importlib.util
import inspect
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

# Some of its constants take the default dtype.
torch.set_default_dtype(torch.float64)


def exact_coefficient(order, t, i, j):
    """k-diffusion integrates with a tolerance of 1e-4, which 1e-12 would show; polynomials can be had to rounding."""
    import numpy as np

    nodes = [t[i - k] for k in range(order)]
    polynomial = np.poly1d([1.0])
    for k in range(order):
        if k != j:
            polynomial *= np.poly1d([1.0, -nodes[k]]) / (nodes[j] - nodes[k])
    integral = polynomial.integ()
    return integral(t[i + 1]) - integral(t[i])


# Settings: what comes after the sampler's name, as both sides have it. Churn 10 is over the most that a step may take.
SETTINGS = [
    "euler",
    "euler s_churn=0.5",
    "euler s_churn=10 s_tmin=0.1 s_tmax=10 s_noise=1.01",
    "euler_ancestral eta=0.5",
    "euler_ancestral",
    "euler_ancestral s_noise=0.9",
    "heun",
    "heun s_churn=0.5",
    "heun s_churn=10 s_tmin=0.1 s_tmax=10 s_noise=1.01",
    "dpm_2",
    "dpm_2 s_churn=0.5",
    "dpm_2_ancestral",
    "dpm_2_ancestral eta=0.3 s_noise=1.1",
    *(f"lms order={order}" for order in (1, 2, 3, 4)),
    *(f"dpm_fast nfe={nfe}" for nfe in (4, 15, 17, 18)),
    "dpm_fast nfe=20 eta=0.7 s_noise=0.9",
    "dpm_adaptive",
    "dpm_adaptive order=2 rtol=0.01 atol=0.001",
    "dpm_adaptive pcoeff=0.3 icoeff=0.6 dcoeff=0.1 accept_safety=0.9",
    "dpm_adaptive eta=0.5 s_noise=0.9",
    "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral eta=0.4 s_noise=1.1",
    "dpmpp_sde",
    "dpmpp_sde eta=0.5 s_noise=0.9 r=0.3",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde eta=0.5 s_noise=0.9 solver_type=heun",
    "dpmpp_3m_sde",
    "dpmpp_3m_sde eta=0.5 s_noise=0.9",
]


def value(text):
    """An option's value: a whole number, a number, or a name."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def parse(setting):
    name, *options = setting.split()
    return name, {option: value(text) for option, text in (word.split("=") for word in options)}


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


def step_by_step(setting, denoise, x, sigmas, noise):
    """x where each step begins and at the end (steps + 1, ...); a rejected step of dpm_adaptive begins too. `noise`: gives the next
    noise whenever it is called; it is called where a step takes any."""
    name, options = parse(setting)
    sample = getattr(sampling, f"sample_{name}")
    states = []
    options["callback"] = lambda info: states.append(info["x"])
    if "noise_sampler" in inspect.signature(sample).parameters:
        # These two call it where its noise is multiplied by 0 too: with eta 0, and in the step to sigma_min.
        ranged = name in ("dpm_fast", "dpm_adaptive")

        def noise_sampler(sigma, sigma_next):
            unused = ranged and (options.get("eta", 0) == 0 or sigma_next <= sigmas[-1] * (1 + 1e-9))
            return torch.zeros_like(x) if unused else noise()

        options["noise_sampler"] = noise_sampler
    churned = iter(
        options.get("s_churn", 0) > 0 and options.get("s_tmin", 0) <= sigma <= options.get("s_tmax", float("inf"))
        for sigma in sigmas
    )
    if name in ("dpm_fast", "dpm_adaptive"):
        options.update(sigma_min=sigmas[1].item(), sigma_max=sigmas[0].item())
        if "nfe" in options:
            options["n"] = options.pop("nfe")
    else:
        options["sigmas"] = sigmas
    draw = mock.patch.object(torch, "randn_like", lambda like: noise() if next(churned) else torch.zeros_like(like))
    exact = mock.patch.object(sampling, "linear_multistep_coeff", exact_coefficient)
    with draw, exact:
        end = sample(denoise, x, disable=True, **options)
    if name == "dpm_adaptive":
        # Its callback tells of x after the step.
        states = [x, *states[:-1]]
    return torch.stack([*states, end])
