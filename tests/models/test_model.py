"""scow.models.transformer: the published network, against the same network written out in float64 NumPy.

The reference below shares no line with the library and none with torch's own encoder, which is a second referee.
Other test files use it too, to check what becomes of a published checkpoint on its way to a CSV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from scow.models.transformer import FRONT_TOKENS, MAX_ROWS, Transformer, TransformerConfig

# The published state dict, as its documentation has it: 19 features, 64 dimensions, one layer per ear.
PUBLISHED_SHAPES = {
    "cls_token": (1, 1, 64),
    "linear_in.weight": (64, 19),
    "linear_in.bias": (64,),
    "hearing_embedding.weight": (3, 64),
    "pos_encoder.pe": (1, 512, 64),
    **{
        f"transformer_{ear}.layers.0.{name}": shape
        for ear in "lr"
        for name, shape in {
            "self_attn.in_proj_weight": (192, 64),
            "self_attn.in_proj_bias": (192,),
            "self_attn.out_proj.weight": (64, 64),
            "self_attn.out_proj.bias": (64,),
            "linear1.weight": (2048, 64),
            "linear1.bias": (2048,),
            "linear2.weight": (64, 2048),
            "linear2.bias": (64,),
            "norm1.weight": (64,),
            "norm1.bias": (64,),
            "norm2.weight": (64,),
            "norm2.bias": (64,),
        }.items()
    },
    "fc_out.weight": (1, 128),
    "fc_out.bias": (1,),
}

# float32 against float64 through some 2,000-wide sums: differences of about 3e-7 are measured; a wrong mask, order,
# scale or activation is off by more than 1e-3.
FLOAT32 = 1e-5


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small gain nothing from threads, and lose much where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sinusoids(rows: int, d_model: int) -> np.ndarray:
    """Sinusoidal positions in float64, shape (rows, d_model), cell by cell from the paper's equation."""
    pe = np.zeros((rows, d_model))
    for position in range(rows):
        for i in range(0, d_model, 2):
            angle = position / 10_000.0 ** (i / d_model)
            pe[position, i], pe[position, i + 1] = np.sin(angle), np.cos(angle)
    return pe


def random_state(seed: int, n_features: int = 19, num_layers: int = 1) -> dict[str, torch.Tensor]:
    """A state dict of the published names with random weights: scores spread about 0.5, attention far from uniform."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in PUBLISHED_SHAPES.items():
        if name == "linear_in.weight":
            shape = (64, n_features)
        for layer in range(num_layers if ".layers.0." in name else 1):
            values = rng.standard_normal(shape) * (0.5 if len(shape) == 1 else 2.0 / np.sqrt(shape[-1]))
            if name.endswith(("norm1.weight", "norm2.weight")):
                values = 1.0 + 0.3 * rng.standard_normal(shape)
            if name == "pos_encoder.pe":
                values = sinusoids(512, 64)[None]
            if name.startswith("fc_out"):
                values = values * 0.1 if name.endswith("weight") else np.array([0.5])
            state[name.replace(".layers.0.", f".layers.{layer}.")] = torch.tensor(values, dtype=torch.float32)
    return state


def reference_share(
    state: Mapping[str, torch.Tensor], left: np.ndarray, right: np.ndarray, severity: int, nhead: int = 4
) -> float:
    """The published network on one signal, in float64: features of shape (rows, n_features) per ear, no padding."""
    w = {name: tensor.double().numpy() for name, tensor in state.items()}
    d_model = w["cls_token"].shape[-1]

    def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return np.einsum("ri,oi->ro", x, weight) + bias

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attention(x: np.ndarray, name: str) -> np.ndarray:
        stacked = linear(x, w[f"{name}.in_proj_weight"], w[f"{name}.in_proj_bias"])
        query, key, value = stacked[:, :d_model], stacked[:, d_model : 2 * d_model], stacked[:, 2 * d_model :]
        width = d_model // nhead
        heads = []
        for head in range(nhead):
            part = slice(head * width, (head + 1) * width)
            logits = query[:, part] @ key[:, part].T / np.sqrt(width)
            weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
            heads.append(weights / weights.sum(axis=-1, keepdims=True) @ value[:, part])
        return linear(np.concatenate(heads, axis=-1), w[f"{name}.out_proj.weight"], w[f"{name}.out_proj.bias"])

    ears = []
    for features, encoder in ((left, "transformer_l"), (right, "transformer_r")):
        rows = linear(features.astype(np.float64), w["linear_in.weight"], w["linear_in.bias"])
        x = np.concatenate([w["cls_token"][0], w["hearing_embedding.weight"][[severity]], rows])
        x = x + sinusoids(len(x), d_model)
        layer = 0
        while f"{encoder}.layers.{layer}.linear1.weight" in w:
            name = f"{encoder}.layers.{layer}"
            x = norm(x + attention(x, f"{name}.self_attn"), f"{name}.norm1")
            hidden = np.maximum(linear(x, w[f"{name}.linear1.weight"], w[f"{name}.linear1.bias"]), 0.0)
            x = norm(x + linear(hidden, w[f"{name}.linear2.weight"], w[f"{name}.linear2.bias"]), f"{name}.norm2")
            layer += 1
        ears.append(x[0])
    return float(np.concatenate(ears) @ w["fc_out.weight"][0] + w["fc_out.bias"][0])


def random_signals(
    lengths: Sequence[int], n_features: int = 19, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features padded with zeros, rows of each signal, severities in turn."""
    rng = np.random.default_rng(seed)
    features = np.zeros((len(lengths), 2, max(lengths), n_features), dtype=np.float32)
    for i, rows in enumerate(lengths):
        features[i, :, :rows] = rng.random((2, rows, n_features))
    return torch.from_numpy(features), torch.tensor(lengths), torch.arange(len(lengths)) % 3


def network_of(state: Mapping[str, torch.Tensor], *, num_layers: int = 1, dropout: float = 0.1) -> Transformer:
    options = TransformerConfig(num_layers=num_layers, dropout=dropout)
    network = Transformer(state["linear_in.weight"].shape[1], options)
    network.load_state_dict(state)
    return network.eval()


def run(network: Transformer, *signals: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(*signals).double().numpy()


def test_names_and_shapes_are_those_of_the_published_state_dict():
    state = Transformer(19, TransformerConfig()).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == PUBLISHED_SHAPES
    assert all(tensor.dtype == torch.float32 for tensor in state.values())


@pytest.mark.parametrize(("seed", "num_layers"), [(0, 1), (1, 1), (2, 1), (3, 2)])
def test_scores_are_those_of_the_network_written_out(seed, num_layers):
    state = random_state(seed, num_layers=num_layers)
    lengths = [2, 13, 5, 1, 30, 7, 9]
    features, n_rows, severity = random_signals(lengths, seed=seed)
    scores = run(network_of(state, num_layers=num_layers), features, n_rows, severity)
    expected = [
        reference_share(state, *features[i, :, :rows].numpy(), severity=int(severity[i]))
        for i, rows in enumerate(lengths)
    ]
    assert np.std(expected) > 0.02  # a constant would agree with anything
    np.testing.assert_allclose(scores, expected, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_scores_are_those_of_torchs_own_encoder(num_layers):
    network = network_of(random_state(4, num_layers=num_layers), num_layers=num_layers)
    features, n_rows, severity = random_signals([3, 11, 6, 1])
    padding = torch.arange(features.shape[2] + 2)[None] >= (n_rows + 2)[:, None]
    with torch.inference_mode():
        front = [network.cls_token.expand(4, 1, -1), network.hearing_embedding(severity)[:, None]]
        ears = []
        for ear, encoder in enumerate((network.transformer_l, network.transformer_r)):
            tokens = network.pos_encoder(torch.cat([*front, network.linear_in(features[:, ear])], dim=1))
            ears.append(encoder(tokens, src_key_padding_mask=padding)[:, 0])
        expected = network.fc_out(torch.cat(ears, dim=-1))[:, 0].double().numpy()
    np.testing.assert_allclose(run(network, features, n_rows, severity), expected, rtol=0, atol=FLOAT32)


def test_gradients_are_those_of_torchs_own_encoder():
    """Training takes the same short cut as prediction: without dropout, every weight gets the same gradient."""
    network = network_of(random_state(5), dropout=0.0).train()
    features, n_rows, severity = random_signals([3, 11, 6, 1])
    network(features, n_rows, severity).square().sum().backward()
    ours = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    network.zero_grad()
    padding = torch.arange(features.shape[2] + 2)[None] >= (n_rows + 2)[:, None]
    front = [network.cls_token.expand(4, 1, -1), network.hearing_embedding(severity)[:, None]]
    ears = []
    for ear, encoder in enumerate((network.transformer_l, network.transformer_r)):
        tokens = network.pos_encoder(torch.cat([*front, network.linear_in(features[:, ear])], dim=1))
        ears.append(encoder(tokens, src_key_padding_mask=padding)[:, 0])
    network.fc_out(torch.cat(ears, dim=-1)).square().sum().backward()
    for name, weight in network.named_parameters():
        # Sums in another order, over gradients of up to 10: relative to the largest of each tensor.
        scale = float(weight.grad.abs().max())
        np.testing.assert_allclose(ours[name], weight.grad, rtol=0, atol=1e-4 * scale, err_msg=name)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_padding_changes_nothing(num_layers):
    network = network_of(random_state(6, num_layers=num_layers), num_layers=num_layers)
    features, n_rows, severity = random_signals([4, 9, 2])
    alone = np.array([run(network, features[[i], :, :r], n_rows[[i]], severity[[i]])[0] for i, r in enumerate(n_rows)])
    filled = torch.cat([features, torch.zeros(3, 2, 20, 19)], dim=2)
    for i, rows in enumerate(n_rows):
        filled[i, :, rows:] = 1e3  # what stands in the padding is as little seen as how much of it there is
    np.testing.assert_allclose(run(network, filled, n_rows, severity), alone, rtol=0, atol=FLOAT32)


def test_left_and_right_are_not_swapped():
    state = random_state(7)
    features, n_rows, severity = random_signals([5, 8])
    scores = run(network_of(state), features, n_rows, severity)
    swap = {"transformer_l": "transformer_r", "transformer_r": "transformer_l"}
    mirrored = {}
    for name, tensor in state.items():
        part, dot, rest = name.partition(".")
        mirrored[swap.get(part, part) + dot + rest] = tensor
    mirrored["fc_out.weight"] = state["fc_out.weight"].roll(64, dims=1)
    mirror = network_of(mirrored)
    np.testing.assert_allclose(run(mirror, features.flip(1), n_rows, severity), scores, rtol=0, atol=FLOAT32)
    assert np.abs(run(network_of(state), features.flip(1), n_rows, severity) - scores).max() > 1e-3
    only_left = torch.zeros(1, 128)
    only_left[:, :64] = state["fc_out.weight"][:, :64]
    deaf_right = network_of({**state, "fc_out.weight": only_left})
    louder = features.clone()
    louder[:, 1] += 5.0
    np.testing.assert_array_equal(
        run(deaf_right, louder, n_rows, severity), run(deaf_right, features, n_rows, severity)
    )


def test_severity_chooses_its_own_embedding():
    network = network_of(random_state(8))
    features, n_rows, _ = random_signals([6])
    scores = [run(network, features, n_rows, torch.tensor([severity]))[0] for severity in range(3)]
    assert min(abs(a - b) for a, b in zip(scores, scores[1:] + scores[:1], strict=True)) > 1e-3


def test_positions_are_sinusoids():
    pe = Transformer(19, TransformerConfig()).pos_encoder.pe[0].numpy()
    # An angle of up to 511 in float32 is known to 3e-5.
    np.testing.assert_allclose(pe, sinusoids(MAX_ROWS, 64), rtol=0, atol=1e-4)


def test_the_longest_signal_has_a_position_for_every_token():
    rows = MAX_ROWS - FRONT_TOKENS
    state = random_state(9, n_features=2)
    features, n_rows, severity = random_signals([rows], n_features=2)
    expected = reference_share(state, *features[0].numpy(), severity=0)
    # Positions near 511 are known to 3e-5 in float32, and the state dict holds them in float32.
    np.testing.assert_allclose(run(network_of(state), features, n_rows, severity), [expected], rtol=0, atol=1e-4)


def test_dropout_is_where_torchs_own_layers_have_it():
    network = network_of(random_state(11, num_layers=2), num_layers=2, dropout=0.5).train()
    dropouts = {name: module for name, module in network.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert len(dropouts) == 1 + 2 * 2 * 3  # on the positions, and three in each layer
    used = set()
    for name, module in dropouts.items():
        module.register_forward_hook(lambda *_, name=name: used.add(name))
    signals = random_signals([5, 6])
    network(*signals)
    assert used == set(dropouts)
    for module in dropouts.values():
        module.p = 0.0
    assert not np.array_equal(run(network, *signals), run(network, *signals))  # the attention has its own


def test_dropout_is_of_training_alone():
    network = network_of(random_state(10), dropout=0.5)
    signals = random_signals([5, 6])
    np.testing.assert_array_equal(run(network, *signals), run(network, *signals))
    network.train()
    assert not np.array_equal(run(network, *signals), run(network, *signals))
