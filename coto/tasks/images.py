"""Image classification: which images, where from, their class names and prompts.

A new data set of the hub is one entry here. Class names come with the data where it names them;
:data:`RENAMED` has CoOp's words where a data set's own are codes.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from coto.tasks.task import Kind, Task

GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
# Capitals that do not look like a Latin one.
CYRILLIC = "БГДЖЗИЛПУФЦЧШЩЪЫЬЭЮЯЄЂЉЊЏ"
DIGITS = "0123456789"
LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Fonts in which the small backbone has never seen a letter (coto/backbones/characters.py).
HELD_OUT_LATIN = (
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"),
    *("DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
)
# For scripts that it has never seen at all: whatever has them.
UPRIGHT = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Bold")
ANY_FONT = (*UPRIGHT, "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol")

# CoOp's class names where a data set's own are codes (CoOp, datasets/eurosat.py).
RENAMED = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTask(Task):
    """An image classification task.

    Attributes:
        made_from: Offline tasks only: ``scans`` (scikit-learn's handwritten digits) or ``fonts``.
        characters: Rendered tasks only: the classes.
        fonts: Rendered tasks only: drawn from in equal shares, in every split.
        hardness: Rendered tasks only: amounts of distortion, as multiples of those in pretraining.
        hand: Rendered tasks only: share of pictures traced with a pen.
        image_column: Hub tasks only.
        label_column: Hub tasks only.
        test_split: Hub tasks only: the labelled split that is reported as ``test``.
        validation_split: Hub tasks only; without one a tenth of the training part is cut off.
        pictures: Folder of the pictures below a mirror, for tasks in CoOp's layout; their
            ``files`` is CoOp's split.
        prompt: What CLIP's text encoder reads, ``{}`` stands for the class name.
    """

    kind: ClassVar[Kind] = "image"

    made_from: Literal["", "scans", "fonts"] = ""
    characters: str = ""
    fonts: tuple[str, ...] = ()
    hardness: float = 1.0
    hand: float = 0.5
    image_column: str = "image"
    label_column: str = "label"
    test_split: str = "test"
    validation_split: str = ""
    pictures: str = ""
    prompt: str = "a photo of a {}."

    @property
    def module(self) -> str:
        """The module that makes the rows."""
        return "coto.tasks.image_rows"

    def scored(self) -> dict[str, Any]:
        """What training and scoring read of this entry."""
        return Task.scored(self) | {"prompt": self.prompt}


def _glyphs(
    name: str, what: str, characters: str, fonts: tuple[str, ...], hardness: float, hand: float
) -> ImageTask:
    return ImageTask(
        name=f"glyphs-{name}",
        family="glyphs",
        summary=f"Which {what} is this? Rendered from fonts, then distorted.",
        source="made",
        made_from="fonts",
        characters=characters,
        fonts=fonts,
        hardness=hardness,
        hand=hand,
        prompt='a drawing of the character "{}".',
    )


def _hub(name: str, summary: str, hub_path: str, **columns: Any) -> ImageTask:
    return ImageTask(
        name=name,
        family=columns.pop("family", "photos"),
        summary=summary,
        source="hub",
        hub_path=hub_path,
        hub_config=columns.pop("hub_config", "default"),
        **columns,
    )


def _coop(name: str, summary: str, folder: str, pictures: str, split: str) -> ImageTask:
    # The layout of CoOp's DATASETS.md, which CLIP-LoRA's code reads too, in a folder of its own.
    return ImageTask(
        name=name,
        family="photos",
        summary=summary,
        source="hub",
        files=(f"CoOp/{folder}/split_zhou_{split}.json",),
        pictures=f"CoOp/{folder}/{pictures}",
    )


OFFLINE_IMAGES = (
    ImageTask(
        name="digits",
        family="digits",
        summary="Which digit is this? Handwritten, 8 x 8 pixels, from scikit-learn.",
        source="made",
        made_from="scans",
        prompt='a photo of the number: "{}".',
    ),
    _glyphs("latin", "capital letter", LATIN, HELD_OUT_LATIN, 1.5, 0.7),
    _glyphs("greek", "Greek letter", GREEK, ANY_FONT, 1.4, 0.5),
    _glyphs("cyrillic", "Cyrillic letter", CYRILLIC, ANY_FONT, 1.3, 0.5),
    _glyphs("digits", "digit, as if by hand,", DIGITS, HELD_OUT_LATIN, 1.7, 1.0),
)

# The alphabets of Omniglot (Lake, Salakhutdinov and Tenenbaum, 2015) by their folder in a mirror.
# The hub has no copy with one configuration per alphabet.
ALPHABETS = ("balinese", "early_aramaic", "greek", "japanese_katakana", "latin", "sanskrit")
OMNIGLOT = tuple(
    ImageTask(
        name=f"omniglot-{alphabet.replace('_', '-')}",
        family="omniglot",
        summary=f"Which character of {alphabet.replace('_', ' ').title()} is this? Drawn by hand.",
        source="hub",
        hub_path="omniglot",
        hub_config=alphabet,
        prompt="a drawing of {}.",
    )
    for alphabet in ALPHABETS
)

_SCENES = "Which of 397 kinds of scene is this?"
_LAND = "Which of 10 uses of land is this satellite image?"
_CARS = "Which of 196 car models is this?"
_FOOD = "Which of 101 dishes is this?"
_PETS = "Which of 37 breeds of cats and dogs is this?"
_FLOWERS = "Which of 102 flowers is this?"
_OBJECTS = "Which of 100 kinds of object is this?"
_TEXTURES = "Which of 47 textures is this?"
_ACTIONS = "Which of 101 actions is this? The middle frame of a video."

# CLIP-LoRA's eleven sets. The hub's copies have their own splits, so numbers on them are near the
# paper's, not on the same images; `-coop` tasks read CoOp's splits, as the paper does, from a
# mirror that has CoOp's folders. ImageNet and FGVC Aircraft have no such split and need none: their
# official ones are the protocol's. UCF101 has no copy of middle frames on the hub.
PHOTOS = (
    _hub(
        "imagenet-1k",
        "Which of 1,000 kinds of object is this?",
        "ILSVRC/imagenet-1k",
        test_split="validation",
    ),
    _hub("sun397", _SCENES, "tanganke/sun397"),
    _hub(
        "fgvc-aircraft",
        "Which of 100 aircraft variants is this?",
        "Donghyun99/FGVC-Aircraft",
        validation_split="val",
    ),
    _hub("eurosat", _LAND, "tanganke/eurosat"),
    _hub("stanford-cars", _CARS, "tanganke/stanford_cars"),
    _hub("food101", _FOOD, "ethz/food101", test_split="validation"),
    _hub("oxford-pets", _PETS, "timm/oxford-iiit-pet"),
    _hub(
        "flowers102",
        _FLOWERS,
        "dpdl-benchmark/oxford_flowers102",
        validation_split="validation",
    ),
    _hub("caltech101", _OBJECTS, "dpdl-benchmark/caltech101"),
    _hub("dtd", _TEXTURES, "tanganke/dtd"),
    _coop("sun397-coop", _SCENES, "sun397", "SUN397", "SUN397"),
    _coop("eurosat-coop", _LAND, "eurosat", "2750", "EuroSAT"),
    _coop("stanford-cars-coop", _CARS, "stanford_cars", "", "StanfordCars"),
    _coop("food101-coop", _FOOD, "food-101", "images", "Food101"),
    _coop("oxford-pets-coop", _PETS, "oxford_pets", "images", "OxfordPets"),
    _coop("flowers102-coop", _FLOWERS, "oxford_flowers", "jpg", "OxfordFlowers"),
    _coop("caltech101-coop", _OBJECTS, "caltech-101", "101_ObjectCategories", "Caltech101"),
    _coop("dtd-coop", _TEXTURES, "dtd", "images", "DescribableTextures"),
    _coop("ucf101", _ACTIONS, "ucf101", "UCF-101-midframes", "UCF101"),
)

CLOTHES = _hub(
    "fashion-mnist",
    "Which of 10 kinds of clothing is this?",
    "zalando-datasets/fashion_mnist",
    family="clothes",
    hub_config="fashion_mnist",
)

IMAGE_TASKS = (*OFFLINE_IMAGES, *OMNIGLOT, CLOTHES, *PHOTOS)
