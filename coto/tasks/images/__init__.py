"""Image classification: which images, where from, their class names and prompts.

A new data set of the hub is one entry here. Class names come with the data where it names them.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from coto.tasks.task import TASKS, Kind, Task

GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
# Capitals that do not look like a Latin one.
CYRILLIC = "БГДЖЗИЛПУФЦЧШЩЪЫЬЭЮЯЄЂЉЊЏ"
DIGITS = "0123456789"
LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Fonts in which the small backbone has never seen a letter (tools/characters.py).
_DEJAVU = ("DejaVuSerif-Italic", "DejaVuSerif-BoldItalic")
HELD_OUT_LATIN = ("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10", *_DEJAVU)
# For scripts that it has never seen at all: whatever has them.
UPRIGHT = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Bold")
ANY_FONT = (*UPRIGHT, "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTask(Task):
    """An image classification task."""

    kind: ClassVar[Kind] = "image"

    # Rendered tasks only:
    characters: str = ""  # that are drawn; the classes, unless the question is another one
    fonts: tuple[str, ...] = ()  # drawn from in equal shares, in every split
    hardness: float = 1.0  # amounts of distortion, as multiples of those in pretraining
    hand: float = 0.5  # share of pictures traced with a pen
    # Hub tasks only:
    image_column: str = "image"
    label_column: str = "label"
    test_split: str = "test"  # the labelled split that is reported as ``test``
    validation_split: str = ""  # without one a tenth of the training part is cut off
    pictures: str = ""  # CoOp's layout only: their folder below a mirror; ``files`` is the split
    renamed: tuple[tuple[str, str], ...] = ()  # names that stand for a data set's own: (own, name)
    prompt: str = "a photo of a {}."  # of CLIP's text encoder, ``{}`` stands for the class name

    def class_name(self, own: str) -> str:
        """A class name as a prompt can have it: spaces for underscores, no synonyms."""
        return dict(self.renamed).get(own, own.split(",")[0].replace("_", " ").strip())

    def scored(self) -> dict[str, Any]:
        """What training and scoring read of this entry."""
        return Task.scored(self) | {"prompt": self.prompt}


def _add(name: str, summary: str, code: str, **more: Any) -> None:
    code = f"coto.tasks.images.{code}"
    more = {"family": "photos", "source": "hub"} | more
    TASKS.add(ImageTask(name=name, summary=summary, code=code, **more))


def _hub(name: str, summary: str, path: str, config: str = "default", **more: Any) -> None:
    _add(name, summary, "hub:table_rows", hub_path=path, hub_config=config, **more)


def _coop(name: str, summary: str, folder: str, pictures: str, split: str, **more: Any) -> None:
    # The layout of CoOp's DATASETS.md, which CLIP-LoRA's code reads too, in a folder of its own.
    files = (f"CoOp/{folder}/split_zhou_{split}.json",)
    pictures = f"CoOp/{folder}/{pictures}"
    _add(name, summary, "hub:coop_rows", files=files, pictures=pictures, **more)


def _composed(
    name: str,
    question: str,
    characters: str,
    fonts: tuple[str, ...],
    prompt: str,
    hardness: float = 0.6,
    hand: float = 0.3,
) -> None:
    summary = f"{question}? Rendered from fonts, then distorted."
    more = {"family": "glyphs", "source": "made", "prompt": prompt, "characters": characters}
    drawn = {"fonts": fonts, "hardness": hardness, "hand": hand}
    _add(f"glyphs-{name}", summary, f"composed:{name}", **more, **drawn)


_DIGIT = "Which digit is this? Handwritten, 8 x 8 pixels, from scikit-learn."
_NUMBER = 'a photo of the number: "{}".'
_more = {"family": "digits", "source": "made", "prompt": _NUMBER, "characters": DIGITS}
_add("digits", _DIGIT, "made:scans", **_more)
for _script, _what, _characters, _fonts, _hardness, _hand in (
    ("latin", "capital letter", LATIN, HELD_OUT_LATIN, 1.5, 0.7),
    ("greek", "Greek letter", GREEK, ANY_FONT, 1.4, 0.5),
    ("cyrillic", "Cyrillic letter", CYRILLIC, ANY_FONT, 1.3, 0.5),
    ("digits", "digit, as if by hand,", DIGITS, HELD_OUT_LATIN, 1.7, 1.0),
):
    _summary = f"Which {_what} is this? Rendered from fonts, then distorted."
    _more = {"family": "glyphs", "source": "made", "prompt": 'a drawing of the character "{}".'}
    _drawn = {"characters": _characters, "fonts": _fonts, "hardness": _hardness, "hand": _hand}
    _add(f"glyphs-{_script}", _summary, "made:rendered", **_more, **_drawn)

# Characters that no turn by a quarter makes another one of them.
TURNED = "ABCEFGJKLPRTYΔΣΨ"
TEN_FONTS = (*HELD_OUT_LATIN[:6], "DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "STIXGeneral")
_composed("left", "Which letter is on the left", LATIN, HELD_OUT_LATIN, "{} on the left.")
_composed("turns", "How is this letter turned", TURNED, UPRIGHT, "a letter, {}.", 0.8, 0.5)
_composed("fonts", "Which of ten fonts is this", LATIN, TEN_FONTS, "a letter in {}.", hand=0.0)
_composed("same", "Are these two digits the same", DIGITS, UPRIGHT, "{} digits.")
_composed("smaller", "Where is the smaller digit", DIGITS, UPRIGHT, "smaller on the {}.")

# The alphabets of Omniglot (Lake, Salakhutdinov and Tenenbaum, 2015) by their folder in a mirror.
# The hub has no copy with one configuration per alphabet.
for _alphabet in ["balinese", "early_aramaic", "greek", "japanese_katakana", "latin", "sanskrit"]:
    _name, _title = f"omniglot-{_alphabet.replace('_', '-')}", _alphabet.replace("_", " ").title()
    _summary = f"Which character of {_title} is this? Drawn by hand."
    _more = {"family": "omniglot", "prompt": "a drawing of {}."}
    _hub(_name, _summary, "omniglot", _alphabet, **_more)

_CLOTHES, _FASHION = "Which of 10 kinds of clothing is this?", "zalando-datasets/fashion_mnist"
_hub("fashion-mnist", _CLOTHES, _FASHION, "fashion_mnist", family="clothes")

_THINGS = "Which of 1,000 kinds of object is this?"
_CRAFT = "Which of 100 aircraft variants is this?"
_SCENES = "Which of 397 kinds of scene is this?"
_LAND = "Which of 10 uses of land is this satellite image?"
_CARS = "Which of 196 car models is this?"
_FOOD = "Which of 101 dishes is this?"
_PETS = "Which of 37 breeds of cats and dogs is this?"
_FLOWERS = "Which of 102 flowers is this?"
_OBJECTS = "Which of 100 kinds of object is this?"
_TEXTURES = "Which of 47 textures is this?"
_ACTIONS = "Which of 101 actions is this? The middle frame of a video."
# EuroSAT's own class names are codes; these are CoOp's (datasets/eurosat.py).
_LAND_NAMES = (
    ("AnnualCrop", "Annual Crop Land"),
    ("HerbaceousVegetation", "Herbaceous Vegetation Land"),
    ("Highway", "Highway or Road"),
    ("Industrial", "Industrial Buildings"),
    ("Pasture", "Pasture Land"),
    ("PermanentCrop", "Permanent Crop Land"),
    ("Residential", "Residential Buildings"),
    ("SeaLake", "Sea or Lake"),
)

# CLIP-LoRA's eleven sets. The hub's copies have their own splits, so numbers on them are near the
# paper's, not on the same images; `-coop` tasks read CoOp's splits, as the paper does, from a
# mirror that has CoOp's folders. ImageNet and FGVC Aircraft have no such split and need none: their
# official ones are the protocol's. UCF101 has no copy of middle frames on the hub.
_hub("imagenet-1k", _THINGS, "ILSVRC/imagenet-1k", test_split="validation")
_hub("sun397", _SCENES, "tanganke/sun397")
_hub("fgvc-aircraft", _CRAFT, "Donghyun99/FGVC-Aircraft", validation_split="val")
_hub("eurosat", _LAND, "tanganke/eurosat", renamed=_LAND_NAMES)
_hub("stanford-cars", _CARS, "tanganke/stanford_cars")
_hub("food101", _FOOD, "ethz/food101", test_split="validation")
_hub("oxford-pets", _PETS, "timm/oxford-iiit-pet")
_hub("flowers102", _FLOWERS, "dpdl-benchmark/oxford_flowers102", validation_split="validation")
_hub("caltech101", _OBJECTS, "dpdl-benchmark/caltech101")
_hub("dtd", _TEXTURES, "tanganke/dtd")
_coop("sun397-coop", _SCENES, "sun397", "SUN397", "SUN397")
_coop("eurosat-coop", _LAND, "eurosat", "2750", "EuroSAT", renamed=_LAND_NAMES)
_coop("stanford-cars-coop", _CARS, "stanford_cars", "", "StanfordCars")
_coop("food101-coop", _FOOD, "food-101", "images", "Food101")
_coop("oxford-pets-coop", _PETS, "oxford_pets", "images", "OxfordPets")
_coop("flowers102-coop", _FLOWERS, "oxford_flowers", "jpg", "OxfordFlowers")
_coop("caltech101-coop", _OBJECTS, "caltech-101", "101_ObjectCategories", "Caltech101")
_coop("dtd-coop", _TEXTURES, "dtd", "images", "DescribableTextures")
_coop("ucf101", _ACTIONS, "ucf101", "UCF-101-midframes", "UCF101")
