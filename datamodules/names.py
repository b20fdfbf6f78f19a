"""Names by country: the 18-language set, any folder like it, and the names in Faker."""

from __future__ import annotations

import importlib
import pkgutil
from abc import abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.base import SPLITS, Availability, cache_folder, data_root, has_file
from datamodules.char_data import CharDataModule, read_text
from datamodules.files import files_below
from datamodules.sources.fetch import fetch
from datamodules.splits import check_fractions, fill_empty_splits, split_at, uniform_hash
from musegen.codecs.chars import CharCodec, normalise
from musegen.codecs.midi import printable
from musegen.constraints import (
    NonNegativeInt,
    OpenFraction,
    PositiveInt,
    Probability,
    Seed,
    check_arguments,
)
from musegen.errors import UserError, unknown_name
from musegen.specs import LabelledTokens

COMMIT = "c520c52e68e945d88fff563dba1c028b6ec0197b"
CACHE = f"names18-{COMMIT[:7]}"
NAMES_URL = f"https://raw.githubusercontent.com/spro/practical-pytorch/{COMMIT}/data/names/"
NAMES_SHA256 = {
    "Arabic": "6f424a8dbe51cbbbabab7a57d38b617210125e4e3991f3c657cb79b8f104bafc",
    "Chinese": "09ba8f1f7e38dbc99372d461b26ad4433b811fc6bfa6a3ecca6fe11a9a777465",
    "Czech": "e17ab0ec47616a72c39cb85c783f70c3663ab64488721e5d8378f146d2226be7",
    "Dutch": "924f32b635170eae561f84538632138fc07d4c8bbd70ba3fb980de1ecc4d2af3",
    "English": "9cca037066d3d5989e24bc01801416162de506b5e28e15b7c092a47905d29bf2",
    "French": "81e65b36c60ed5b89a17422f6edcadbb89546f38ad69e960e64e7ba682012a95",
    "German": "7449cd590b97a733e18d613a4155decd77ec35dc5f8aadd7a82204dce4f051db",
    "Greek": "3555b5186de7f401e6d991b088e9e644ca3099116477818c25ab5793801389e6",
    "Irish": "cf8c7013256252a88d2503127b87282a11f21b2ff6db1bded68834c19a1ec058",
    "Italian": "f88414c27d0606a11a678b4859277828c2565d6cc4d9ee932deef6e94f3b35e4",
    "Japanese": "e0e717e114fec3e7eade4d9dabe0067c475f43147e36a22b47902ee76ad9e67f",
    "Korean": "cd54221ccb362a6cba4c78828838cf3268a0e59744767a37cf6ec4b74036b136",
    "Polish": "45bab898af2f60ed3a728bbf6980e28821011a7caa53227553b5785903a40826",
    "Portuguese": "50a8735f41f4f73757c8ce5b16cb0275cd86b2b214bcbc8c9805f508cb131c53",
    "Russian": "0cfe53ac18041e8f63666aa77313e0a3ff378facb132abee052d8ebdc8c3d62c",
    "Scottish": "78d0252711d87d948ea86fe34826c51d2d794a8e52d15b5d6f7b6244d45d62dd",
    "Spanish": "1bcb462ed3316756a85781d68232bddae04498fdddd5d9219c53fd1fbdeba7a7",
    "Vietnamese": "f3f9e4164ab47601178a6e45b216464a64122f49d05541f24bf18a757253281d",
}


class LabelledNames(CharDataModule):
    """Names, each with its country or language as the label.

    - ascii: letters without their marks; otherwise Unicode in NFC.
    - min_count: characters that occur less often in the training names share one class, that of
      unknown characters, so that this class is trained too.
    - balance: the probability of a label with n names in a training batch is proportional to
      n^(1 − balance). 0 takes every name once, 1 draws all labels equally often.
    - val_fraction, test_fraction, split_seed: repeated names are removed. The split of a name is a
      function of its hash (`datamodules.splits`), so that it does not change when other names are
      added or removed. A label with at least three names has at least one in each split, or all
      in training; a label with fewer has all in training.
    - fold: the part of the names for test, counted from 0. The folds 0 … 1/test_fraction − 1
      together test every name, which is useful for labels with few names. A name is tested twice
      only if a fold has no other name of its label.

    Raises `UserError` in `setup` for a label without names, and for labels or characters that a
    given codec does not have.
    """

    yields = (LabelledTokens,)
    labels: dict[str, list[int]]

    @check_arguments
    def __init__(
        self,
        ascii: bool = False,
        min_count: NonNegativeInt = 2,
        balance: Probability = 0.0,
        val_fraction: OpenFraction = 0.1,
        test_fraction: OpenFraction = 0.1,
        split_seed: int = 0,
        fold: NonNegativeInt = 0,
        batch_size: PositiveInt = 64,
        codec: CharCodec | None = None,
        seed: Seed = 1,
        num_workers: NonNegativeInt = 0,
    ) -> None:
        super().__init__(codec, batch_size, seed, num_workers)
        check_fractions(val_fraction, test_fraction)
        if (fold + 1) * test_fraction > 1 + 1e-9:
            raise UserError(
                f"data.fold={fold}: with data.test_fraction={test_fraction} the folds are 0 to "
                f"{int(1 / test_fraction + 1e-9) - 1}"
            )
        self.ascii = ascii if codec is None else codec.ascii
        self.min_count, self.balance = min_count, balance
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.split_seed, self.fold = split_seed, fold

    @abstractmethod
    def names(self) -> dict[str, list[str]]:
        """The names of each label."""

    def setup(self, stage: str | None = None) -> None:
        if self.texts:
            return
        names = {label: self._clean(raw) for label, raw in sorted(self.names().items())}
        for label, found in names.items():
            if not found:
                remedy = "set data.ascii=false" if self.ascii else "leave it out"
                raise UserError(f"label {label}: no names to train on; {remedy}")
        split = {label: self._split(found) for label, found in names.items()}
        if self._codec is None:
            training = [name for parts in split.values() for name in parts["train"]]
            self._codec = CharCodec.of(
                training, self.min_count, labels=tuple(names), ascii=self.ascii
            )
        classes = {label: self.codec.label_class(label) for label in names}
        self.texts = {s: [n for parts in split.values() for n in parts[s]] for s in SPLITS}
        self.labels = {
            s: [classes[label] for label, parts in split.items() for _ in parts[s]] for s in SPLITS
        }
        if not (self.texts["val"] and self.texts["test"]):
            raise UserError("no label has the 3 names that training, validation and test need")

    def describe(self) -> str:
        return f"{super().describe()}, {self.spec.num_labels} labels"

    def probabilities(self, epoch: int) -> np.ndarray | None:
        if self.balance == 0:
            return None
        label = np.array(self.labels["train"])
        weight = np.bincount(label)[label] ** -self.balance
        return weight / weight.sum()

    def _clean(self, raw: list[str]) -> list[str]:
        """The names without repetitions and without extra spaces, in their first order."""
        names = (" ".join(normalise(name, self.ascii).split()) for name in raw)
        return list(dict.fromkeys(name for name in names if name))

    def _split(self, names: list[str]) -> dict[str, list[str]]:
        """The names of one label in each split, in the order of their hashes."""
        number = {
            name: (uniform_hash(self.split_seed, name) - self.fold * self.test_fraction) % 1
            for name in names
        }
        order = sorted(names, key=number.__getitem__)
        splits = [split_at(number[name], self.val_fraction, self.test_fraction) for name in order]
        fill_empty_splits(splits, range(len(order)))
        if len(names) < 3 or "train" not in splits:
            splits = ["train"] * len(order)
        return {
            s: [name for name, split in zip(order, splits, strict=True) if split == s]
            for s in SPLITS
        }


MAX_LENGTH = 1000
"""The limit for a name, in characters: a batch is padded to its longest name."""


class Names(LabelledNames):
    """A folder of LABEL.txt files with one name per line, by default the 18-language set.

    - root: such a folder. Without it MUSEGEN_DATA/names18 is used, or the files are downloaded
      once from spro/practical-pytorch (MIT).

    The other settings are those of `LabelledNames`.
    """

    licence = "MIT (spro/practical-pytorch)"

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability(
            "a download of 0.2 MB, or data.root=DIR", has_file("Arabic.txt", "names18", CACHE)
        )

    @check_arguments
    def __init__(
        self, root: Path | None = None, cache_dir: Path | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.root, self.cache_dir = root, cache_dir

    def prepare_data(self) -> None:
        self._folder()

    def names(self) -> dict[str, list[str]]:
        folder = self._folder()
        files = files_below(folder, (".txt",), deep=False) if folder.is_dir() else []
        if not files:
            raise UserError(f"{folder}: has no LABEL.txt file with one name per line")
        names = {Path(name).stem: read_text(path).splitlines() for name, path, _ in files}
        for (_, path, _), found in zip(files, names.values(), strict=True):
            for number, name in enumerate(found, start=1):
                if len(name) > MAX_LENGTH:
                    raise UserError(
                        f"{printable(path)}: line {number} has {len(name):,} characters; "
                        f"a name may have at most {MAX_LENGTH:,}"
                    )
        return names

    def _folder(self) -> Path:
        if (root := data_root(self.root, "names18")) is not None:
            return root
        folder = cache_folder(self.cache_dir, CACHE)
        for label, sha256 in NAMES_SHA256.items():
            fetch(f"{label}.txt", [f"{NAMES_URL}{label}.txt"], sha256, folder)
        return folder


class FakerNames(LabelledNames):
    """The names in Faker (MIT), offline, labelled by country.

    - kind: `first`, `last` or `full`. Full names are as Faker writes them: with titles, and with
      the family name first in some countries.
    - size: the number of names drawn per locale, before repetitions are removed.
    - countries: English names of countries; null takes all.

    Locales of one country are joined; locales without names of their own are left out. The other
    settings are those of `LabelledNames`.
    """

    licence = "MIT (Faker)"

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability("pip install 'musegen[faker]'", find_spec("faker") is not None)

    @check_arguments
    def __init__(
        self,
        kind: Literal["first", "last", "full"] = "last",
        size: PositiveInt = 1000,
        countries: list[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        for country in countries or ():
            if country not in COUNTRIES.values():
                raise unknown_name(
                    f"data.countries: {country}", country, COUNTRIES.values(), "country"
                )
        self.kind, self.size, self.countries = kind, size, countries

    def names(self) -> dict[str, list[str]]:
        try:
            faker = importlib.import_module("faker")
        except ImportError as e:
            raise UserError("data=names_faker needs Faker: pip install 'musegen[faker]'") from e
        method = {"first": "first_name", "last": "last_name", "full": "name"}[self.kind]
        names: dict[str, list[str]] = {}
        locales = importlib.import_module("faker.providers.person").__path__
        for locale in sorted(m.name for m in pkgutil.iter_modules(locales)):
            country = COUNTRIES.get(locale)
            if country is None or (self.countries and country not in self.countries):
                continue
            source = faker.Faker(locale)
            source.seed_instance(f"{self.split_seed}/{locale}")
            draw_name = getattr(source, method)
            names.setdefault(country, []).extend(draw_name() for _ in range(self.size))
        return names


COUNTRIES = {
    locale: country
    for country, locales in {
        "Algeria": "ar_DZ fr_DZ",
        "Argentina": "es_AR",
        "Armenia": "hy_AM",
        "Austria": "de_AT",
        "Azerbaijan": "az_AZ",
        "Bangladesh": "bn_BD",
        "Belgium": "fr_BE nl_BE",
        "Brazil": "pt_BR",
        "Bulgaria": "bg_BG",
        "Canada": "fr_CA",
        "Chile": "es_CL",
        "China": "zh_CN",
        "Colombia": "es_CO",
        "Croatia": "hr_HR",
        "Czechia": "cs_CZ",
        "Denmark": "da_DK",
        "Estonia": "et_EE",
        "Finland": "fi_FI",
        "France": "fr_FR",
        "Georgia": "ka_GE",
        "Germany": "de_DE",
        "Ghana": "tw_GH",
        "Greece": "el_GR",
        "Hungary": "hu_HU",
        "Iceland": "is_IS",
        "India": "en_IN gu_IN hi_IN mr_IN or_IN ta_IN",
        "Indonesia": "id_ID",
        "Iran": "fa_IR",
        "Ireland": "en_IE ga_IE",
        "Israel": "he_IL",
        "Italy": "it_IT",
        "Japan": "ja_JP",
        "Kenya": "en_KE",
        "Latvia": "lv_LV",
        "Liechtenstein": "de_LI",
        "Lithuania": "lt_LT",
        "Luxembourg": "de_LU",
        "Mexico": "es_MX",
        "Nepal": "ne_NP",
        "Netherlands": "nl_NL",
        "New Zealand": "en_NZ",
        "Nigeria": "en_NG ha_NG ig_NG yo_NG",
        "North Macedonia": "mk_MK",
        "Norway": "no_NO",
        "Pakistan": "en_PK",
        "Palestine": "ar_PS",
        "Poland": "pl_PL",
        "Portugal": "pt_PT",
        "Romania": "ro_RO",
        "Russia": "ru_RU",
        "Saudi Arabia": "ar_SA",
        "Slovakia": "sk_SK",
        "Slovenia": "sl_SI",
        "South Africa": "zu_ZA",
        "South Korea": "ko_KR",
        "Spain": "es_ES",
        "Sri Lanka": "si_LK",
        "Sweden": "sv_SE",
        "Switzerland": "de_CH fr_CH",
        "Taiwan": "zh_TW",
        "Thailand": "en_TH th_TH",
        "Turkey": "tr_TR",
        "Ukraine": "uk_UA",
        "United Kingdom": "en_GB",
        "United States": "en_US",
        "Uzbekistan": "uz_UZ",
        "Vietnam": "vi_VN",
    }.items()
    for locale in locales.split()
}
"""The country of each of Faker's locales. Locales without a country (de, es, la, …), es_CA, which
is Catalan, and fr_QC, another name for fr_CA, are left out."""
