"""What `pocketclip.load` returns: a trained model with its tokenizer and preprocessing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pocketclip.bundle import BundleConfig, read_bundle, write_bundle
from pocketclip.errors import UserError, first_line, require
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.inference import Runner
from pocketclip.models.precision import Precision, precision_of_scores, resolve_device
from pocketclip.models.tower import NoTower
from pocketclip.models.weights import load_weights, read_state_dict
from pocketclip.preprocess import ImageLike, PreprocessConfig, open_image, resize_image
from pocketclip.tokenizer import Tokenizer

Floats = npt.NDArray[np.float32]


class PretrainedModel:
    """Images and sentences to vectors of one space; their dot product is their similarity.

    >>> model = pocketclip.load("runs/flickr8k")
    >>> images = model.encode_image(["a.jpg", "b.jpg"])      # float32 (2, D), unit length
    >>> texts = model.encode_text(["two dogs in the snow"])  # float32 (1, D), unit length
    >>> images @ texts.T
    """

    def __init__(
        self,
        model: DualEncoder,
        config: DualEncoderConfig,
        tokenizer: Tokenizer,
        preprocess: PreprocessConfig,
    ) -> None:
        self.model = model
        self.config = config
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.card = ""
        self._device = resolve_device("auto")
        self._precision: Precision = "auto"
        self._runner: Runner | None = None

    @classmethod
    def from_pretrained(cls, place: str | Path, *, text_only: bool = False) -> "PretrainedModel":
        """Load a bundle, a run folder, or a name on the Hugging Face hub.

        Args:
            place: where the bundle is.
            text_only: leave out the image tower: half the time to load, for encoding queries.

        Raises:
            UserError: it is not there or not complete.
        """
        bundle = read_bundle(place)
        config = DualEncoderConfig.parse(bundle.config.model, place=f"{bundle.folder / 'config.json'}: model")
        model = build_model(config, load_pretrained=False, text_only=text_only)
        ignore = "image_" if text_only else ""
        load_weights(model, read_state_dict(bundle.weights), place=str(bundle.weights), ignore=ignore)
        loaded = cls(model, config, bundle.tokenizer, bundle.preprocess)
        card = bundle.folder / "README.md"
        loaded.card = card.read_text(encoding="utf-8") if card.is_file() else ""
        return loaded

    def save_pretrained(self, folder: str | Path, *, card: str | None = None) -> Path:
        """Write the bundle; an older one in the same folder is replaced.

        Args:
            folder: empty, new, or a bundle.
            card: the model card in Markdown; None keeps the one the model was loaded with.

        Raises:
            UserError: it cannot be written there, or the model was loaded with `text_only`.
        """
        self._need_image_tower()
        text_encoder = self.config.text_encoder.as_built(self.model.architecture())
        settings = self.config.model_copy(update={"text_encoder": text_encoder}).model_dump(mode="json")
        config = BundleConfig(
            embed_dim=self.config.embed_dim, context_length=self.tokenizer.context_length, model=settings
        )
        weights = {name: value.detach().cpu().numpy() for name, value in self.model.state_dict().items()}
        return write_bundle(
            Path(folder),
            config=config,
            weights=weights,
            tokenizer=self.tokenizer,
            preprocess=self.preprocess,
            card=self.card if card is None else card,
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
        self._device, self._precision = resolve_device(device), precision
        self._runner = self._make_runner(precision)
        return self

    @property
    def runner(self) -> Runner:
        """What encodes; made when first used."""
        if self._runner is None:
            self._runner = self._make_runner(self._precision)
        return self._runner

    def runner_for_scores(self) -> Runner:
        """What encodes where recalls are reported: slower and more exact."""
        return self._make_runner(precision_of_scores(self._precision))

    def _make_runner(self, precision: Precision) -> Runner:
        return Runner(self.model, device=self._device, precision=precision, image_size=self.preprocess.image_size)

    def encode_image(self, images: ImageLike | Sequence[ImageLike], *, batch_size: int = 32) -> Floats:
        """Embed pictures.

        Args:
            images: paths, encoded bytes or Pillow images; a single one is taken as a list of one.
            batch_size: pictures a forward pass.

        Returns:
            (B, D) float32, unit length per row.

        Raises:
            UserError: a file is missing or is not a picture.
        """
        self._need_image_tower()
        wanted = list(images) if isinstance(images, Sequence) and not isinstance(images, (str, bytes)) else [images]
        rows = []
        for first in range(0, len(wanted), batch_size):
            opened = [open_image(image) for image in wanted[first : first + batch_size]]
            pixels = np.stack([resize_image(image, self.preprocess) for image in opened])
            rows.append(self.runner.encode_images(pixels))
        return np.concatenate(rows) if rows else np.zeros((0, self.config.embed_dim), np.float32)

    def _need_image_tower(self) -> None:
        if isinstance(self.model.image_encoder, NoTower):
            raise UserError("This model was loaded with text_only=True and has no image tower; load it without.")

    def encode_text(self, texts: str | Sequence[str], *, batch_size: int = 128) -> Floats:
        """Embed sentences; longer ones are cut at the context length.

        Returns:
            (B, D) float32, unit length per row.
        """
        wanted = [texts] if isinstance(texts, str) else list(texts)
        order = sorted(range(len(wanted)), key=lambda number: len(wanted[number]))
        rows = np.zeros((len(wanted), self.config.embed_dim), np.float32)
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            tokens, mask = self.tokenizer.encode([wanted[number] for number in chosen])
            rows[chosen] = self.runner.encode_tokens(tokens, mask)
        return rows

    def classify(
        self, images: ImageLike | Sequence[ImageLike], class_names: Sequence[str], *, template: str = "{}"
    ) -> list[dict[str, float]]:
        """Zero-shot classification: the probability of each class for each picture.

        Args:
            images: as in `encode_image`.
            class_names: at least one.
            template: a sentence with `{}` where the class name goes.

        Returns:
            One mapping an image, most probable class first; values sum to 1.

        Raises:
            UserError: no classes, one given twice, or no `{}` in the template.
        """
        if not class_names:
            raise UserError("classify: class_names is empty.")
        if len(set(class_names)) < len(class_names):
            raise UserError(f"classify: class_names should differ (got {list(class_names)}).")
        if "{}" not in template:
            raise UserError(f"classify: template should hold {{}} for the class name (got {template!r}).")
        texts = self.encode_text([template.replace("{}", name) for name in class_names])
        logits = self.model.logit_scale.exp().item() * self.encode_image(images) @ texts.T
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = shifted / shifted.sum(axis=1, keepdims=True)
        return [
            {class_names[number]: float(row[number]) for number in np.argsort(-row, kind="stable")} for row in shares
        ]
