"""What `pocketclip.load` returns: a trained model of ours with its tokenizer and preprocessing."""

import copy
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.asked.library import PACKAGES
from pocketclip.asked.model import AskedModel
from pocketclip.bundle import BundleConfig, read_bundle, write_bundle
from pocketclip.config import digest
from pocketclip.data.keys import safe_key
from pocketclip.embedder import Floats, Ids, Mask, Pixels
from pocketclip.errors import UserError, first_line, require
from pocketclip.hubs import Hubs
from pocketclip.models.build import build_for
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.origin.weights import load_weights, read_state_dict
from pocketclip.models.pair_head import judge_of
from pocketclip.models.running.precision import Precision, precision_of_scores, resolve_device
from pocketclip.models.running.runner import Runner, module_fingerprint
from pocketclip.models.tower import NoTower
from pocketclip.preprocess import PreprocessConfig
from pocketclip.sketch import Sketch
from pocketclip.tokenizer import Tokenizer


class PretrainedModel(AskedModel):
    """A model of ours; `pocketclip.load("runs/flickr8k")` gives one. See `Embedder` for what it answers."""

    kind = "bundle"

    def __init__(
        self,
        model: DualEncoder,
        config: DualEncoderConfig,
        tokenizer: Tokenizer,
        preprocess: PreprocessConfig,
        *,
        name: str = "model",
    ) -> None:
        self.model, self.config = model, config
        self.tokenizer: Tokenizer = tokenizer
        self.preprocess = preprocess
        self.name, self.card = name, ""
        self.in_half_precision = False
        """Whether a bundle of it has its weights in float16; it computes with them as with others."""
        path = Path(name)
        self.short_name = safe_key(path.parent.name if path.name == "bundle" else path.name)
        self.embed_dim = config.embed_dim
        self.num_parameters = sum(parameter.numel() for parameter in model.parameters())
        self.inverse_temperature = model.logit_scale.exp().item()
        self.judge_pairs = judge_of(model.pair_head)
        self.device = resolve_device("auto")
        self.is_on_gpu = self.device.type == "cuda"
        self._precision: Precision = "auto"
        self._runner: Runner | None = None
        self._lock = threading.RLock()  # several threads may come first

    @classmethod
    def from_pretrained(cls, place: str | Path, *, text_only: bool = False) -> "PretrainedModel":
        """Load a bundle, a run folder, or a name on the Hugging Face hub.

        For encoding queries, `text_only` leaves out the image tower, which halves the time to load.

        Raises:
            UserError: it is not there or not complete.
        """
        bundle = read_bundle(place)
        config, model = build_for(bundle, text_only=text_only)
        ignore = "image_" if text_only else ""
        weights = read_state_dict(bundle.weights)
        load_weights(model, weights, place=str(bundle.weights), ignore=ignore)
        loaded = cls(model, config, bundle.tokenizer, bundle.preprocess, name=str(place))
        loaded.in_half_precision = any(value.dtype == torch.float16 for value in weights.values())
        card = bundle.folder / "README.md"
        loaded.trained_on = Sketch.load(bundle.folder)
        loaded.hubs = Hubs.load(bundle.folder, bundle.config.embed_dim)
        loaded.card = card.read_text(encoding="utf-8") if card.is_file() else ""
        return loaded

    def save_pretrained(self, folder: str | Path, *, card: str | None = None) -> Path:
        """Write the bundle into a new folder, or over an older bundle; without a `card` in Markdown with its old one.

        Raises:
            UserError: it cannot be written there, or the model was loaded with `text_only`.
        """
        self._need_image_tower()
        text_encoder = self.config.text_encoder.as_built(self.model.architecture())
        settings = self.config.model_copy(update={"text_encoder": text_encoder}).model_dump(mode="json")
        config = BundleConfig(
            embed_dim=self.config.embed_dim, context_length=self.tokenizer.context_length, model=settings
        )
        weights = {name: value.detach().cpu() for name, value in self.model.state_dict().items()}
        if self.in_half_precision:
            weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
        return write_bundle(
            Path(folder),
            config=config,
            weights={name: value.numpy() for name, value in weights.items()},
            tokenizer=self.tokenizer,
            preprocess=self.preprocess,
            card=self.card if card is None else card,
            trained_on=self.trained_on,
            hubs=self.hubs,
        )

    def push_to_hub(self, name: str, *, private: bool = False) -> str:
        """Upload the bundle as `owner/name`; returns the address of the commit.

        Raises:
            UserError: the hub refuses, or cannot be reached.
        """
        import tempfile

        hub = require("huggingface_hub", extra="train")
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder) / "bundle")
            try:
                hub.create_repo(name, private=private, exist_ok=True)
                return str(hub.upload_folder(repo_id=name, folder_path=Path(folder) / "bundle"))
            except Exception as error:  # the hub has a dozen types
                reason = first_line(error)
                raise UserError(f"{name}: the hub did not take the bundle ({reason}). Try `hf auth login`.") from error

    def to(self, device: str, *, precision: Precision = "auto") -> "PretrainedModel":
        """Choose where and in which number type to compute; the CPU or first GPU, and bfloat16, by default."""
        self.device, self._precision = resolve_device(device), precision
        self.is_on_gpu = self.device.type == "cuda"
        self._runner = self._make_runner()
        return self

    @property
    def runner(self) -> Runner:
        """What encodes; made when first used."""
        with self._lock:
            if self._runner is None:
                self._runner = self._make_runner()
            return self._runner

    def _make_runner(self) -> Runner:
        size, precision = self.preprocess.image_size, self._precision
        return Runner(self.model, device=self.device, precision=precision, image_size=size)

    def for_scores(self) -> "PretrainedModel":
        exact = copy.copy(self)
        exact._precision, exact._runner = precision_of_scores(self._precision), None
        return exact

    def encode_images(self, pixels: Pixels) -> Floats:
        self._need_image_tower()
        return self.runner.encode_images(pixels)

    def encode_texts(self, tokens: Ids, mask: Mask) -> Floats:
        return self.runner.encode_tokens(tokens, mask)

    def embed_images(self, images: Tensor) -> Tensor:
        # The runner's are of unit length but for the last digit, which stored features of teachers hang on
        return F.normalize(self.runner.embed("image", images.to(self.device)), dim=1)

    def embed_tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return F.normalize(self.runner.embed("text", tokens.to(self.device), mask.to(self.device)), dim=1)

    @property
    def fingerprint(self) -> str:
        shaping = [
            self.config.model_dump(mode="json"),
            digest(self.tokenizer.to_json()),
            self.tokenizer.context_length,
            self.preprocess.model_dump(mode="json"),
        ]
        return module_fingerprint(self.model, digest(shaping))

    def image_identity(self) -> str:
        # Of the image's way alone: its weights say all, and a config is written more fully when it is saved
        model = self.model
        shared = [] if model.shared_encoder is None else [model.shared_encoder]
        way = nn.ModuleList([model.image_encoder, model.image_head, *shared])
        settings = self.preprocess.model_dump(mode="json")
        if (look := model.image_encoder.settings.get("second_look")) is not None:
            settings["second_look"] = look
        return module_fingerprint(way, settings)

    def made_from(self) -> dict[str, Any]:
        return {
            "model": module_fingerprint(self.model, digest(self.config.model_dump(mode="json"))),
            "tokenizer": digest(self.tokenizer.to_json()),
            "context_length": self.tokenizer.context_length,
            "preprocess": self.preprocess.model_dump(mode="json"),
            "precision": self.runner.precision,
            "backends": [self.runner.backend["image"], self.runner.backend["text"]],
            "device": self.device.type,
            "versions": {name: version(name) for name in PACKAGES},
        }

    def _need_image_tower(self) -> None:
        if isinstance(self.model.image_encoder, NoTower):
            raise UserError("This model was loaded with text_only=True and has no image tower; load it without.")
