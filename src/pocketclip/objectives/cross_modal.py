"""The head that guesses hidden words, with the picture before it: a part of training alone."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.types import NOT_HIDDEN, WordFeatures


class CrossModalHead(nn.Module):
    """Words attend to the places of their image, then to each other; a classifier of words follows."""

    def __init__(
        self,
        word_width: int,
        place_width: int,
        width: int,
        vocabulary_size: int,
        *,
        num_layers: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.words = nn.Sequential(nn.Linear(word_width, width), nn.LayerNorm(width))
        self.places = nn.Sequential(nn.Linear(place_width, width), nn.LayerNorm(width))
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, num_heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(num_layers)
        )
        self.guess = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, vocabulary_size),
        )

    def forward(
        self, features: WordFeatures, token_mask: Bool[Tensor, "M L"], hidden: Int[Tensor, "M L"]
    ) -> tuple[Float[Tensor, "W V"], Int[Tensor, " W"]]:
        """Logits of the W hidden words of all texts, and the words; there is one text an image."""
        states, places = self.words(features.texts), self.places(features.images)
        states = states + self.attention(states, places, places, need_weights=False)[0]
        padding = F.pad(~token_mask[:, 1:], (1, 0))  # attention to nothing is no number
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=padding)
        asked = hidden != NOT_HIDDEN
        logits: Tensor = self.guess(states[asked])
        return logits, hidden[asked]
