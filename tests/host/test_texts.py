"""Translations, help pages and what the registry gets: complete, and about these nodes."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.host.environment import HERE, ROOT
from tests.host.server import packed_files

LANGUAGES = {
    *("en", "zh", "zh-TW", "ja", "ko", "fr", "de", "es", "ru"),
    *("ar", "fa", "pt-BR", "tr"),
}
"""Those of ComfyUI's page, and German, which only pages before 2026 have."""

OWN_LETTERS = {
    "zh": "[\u4e00-\u9fff]",  # of both Chinese languages and Japanese
    "ja": "[\u3040-\u30ff]",  # kana; the Chinese characters would not tell it from Chinese
    "ko": "[\uac00-\ud7af]",
    "ru": "[\u0400-\u04ff]",
    "ar": "[\u0629\u0643\u0649\u064a]",  # Persian has other forms of these
    "fa": "[\u067e\u0686\u06a9\u06af\u06cc]",
}

CORES_NAMES = {
    "zh": "使用模型放大图像",
    "zh-TW": "圖片放大（使用模型）",
    "ja": "モデルを使用して画像を拡大",
    "ko": "모델을 사용한 이미지 확대",
    "de": "Bild hochskalieren (mit Modell)",
    "fr": "Agrandir l'Image (à l'aide du Modèle)",
    "es": "Ampliar Imagen (usando Modelo)",
    "ar": "تكبير الصورة (باستخدام نموذج)",
    "fa": "بزرگ\u200cنمایی تصویر (با مدل)",
    "pt-BR": "Aumentar Resolução da Imagem (usando Modelo)",
    "tr": "Görüntüyü Büyüt (Model kullanarak)",
    "ru": "Апскейл изображения (с использованием модели)",
}
"""What the host's own page calls Upscale Image (using Model); in English, just that."""
INFO: dict[str, Any] = json.loads((HERE / "object_info.json").read_text(encoding="utf-8"))
"""The nodes as frozen; `test_object_info.py` compares this with the running host."""

ARCHIVE_BYTES = 33_000_000
FORBIDDEN_MODULES = {"subprocess", "pickle", "urllib", "requests", "http", "socket", "ctypes"}
ONLY_TO_CATCH_ITS_ERRORS = {"devudp_model/network/tensor_files.py": {"pickle"}}


def inputs(node: str) -> dict[str, Any]:
    info = INFO[node]["input"]
    return {name: spec[1] for kind in info.values() for name, spec in kind.items() if spec[1:]}


def texts(language: str) -> dict[str, Any]:
    path = ROOT / "locales" / language / "nodeDefs.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_there_is_every_language() -> None:
    assert {path.name for path in (ROOT / "locales").iterdir()} == LANGUAGES


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_translation_is_complete(language: str) -> None:
    translated = texts(language)
    assert set(translated) == set(INFO)
    for node, text in translated.items():
        assert text["display_name"] and text["description"]
        assert set(text["inputs"]) == {n for n in inputs(node) if "tooltip" in inputs(node)[n]}
        assert set(text["outputs"]) == {str(i) for i in range(len(INFO[node]["output"]))}
        parts = [*text["inputs"].values(), *text["outputs"].values()]
        assert all(part["name"] and part["tooltip"] for part in parts)
    main = json.loads((ROOT / "locales" / language / "main.json").read_text(encoding="utf-8"))
    assert main["nodeCategories"]["restoration"]


@pytest.mark.parametrize("language", sorted(LANGUAGES - {"en"}))
def test_translation_is_one_and_keeps_the_values_names(language: str) -> None:
    english, translated = texts("en"), texts(language)
    for node, text in translated.items():
        assert text["display_name"] != english[node]["display_name"]
        assert text["description"] != english[node]["description"]
        for number, part in text["outputs"].items():
            assert part["tooltip"] != english[node]["outputs"][number]["tooltip"]
        for name, part in text["inputs"].items():
            original = english[node]["inputs"][name]["tooltip"]
            assert part["tooltip"] != original
            for value in inputs(node)[name].get("options", []):
                assert (value in part["tooltip"]) == (value in original), (node, name, value)


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_translation_is_in_its_language(language: str) -> None:
    """Told by its letters, and by being nobody else's."""
    for node, text in texts(language).items():
        parts = [*text["inputs"].values(), *text["outputs"].values()]
        sentences = [text["description"], *(part["tooltip"] for part in parts)]
        for sentence in sentences:
            for other, letters in OWN_LETTERS.items():
                if other != "zh" or language not in {"ja", "zh-TW"}:
                    assert bool(re.search(letters, sentence)) == (language == other), sentence
        for other in LANGUAGES - {language}:
            assert text["description"] != texts(other)[node]["description"]


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_the_cores_node_is_called_as_in_the_hosts_page(language: str) -> None:
    text = texts(language)["DEvUDPLoadUpscaleModel"]
    name = CORES_NAMES.get(language, "Upscale Image (using Model)")
    assert name in text["description"] and name in text["outputs"]["0"]["tooltip"]


def test_english_is_what_the_nodes_say() -> None:
    for node, text in texts("en").items():
        assert text["display_name"] == INFO[node]["display_name"]
        assert text["description"] == INFO[node]["description"]
        for name, part in text["inputs"].items():
            assert part["tooltip"] == inputs(node)[name]["tooltip"]
        tooltips = [part["tooltip"] for part in text["outputs"].values()]
        assert tooltips == INFO[node]["output_tooltips"]


@pytest.mark.parametrize("language", sorted(LANGUAGES))
@pytest.mark.parametrize("node", sorted(INFO))
def test_help_page(node: str, language: str) -> None:
    docs = ROOT / "web" / "docs"
    page = (docs / node / f"{language}.md").read_text(encoding="utf-8")
    english = (docs / node / "en.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {short_name(texts(language)[node]['display_name'])}\n")
    for name in inputs(node):
        assert f"`{name}`" in page, name
    names = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert names == re.findall(r"!\[[^]]+\]\(([^)]+)\)", english)
    for name in names:
        with Image.open(docs / name) as image:
            assert image.width >= 300
    # Same parts in the same order, and every value and file name as it is.
    assert shape(page) == shape(english)
    assert set(re.findall(r"`([^`]+)`", page)) == set(re.findall(r"`([^`]+)`", english))
    assert not re.search(r"^\|", page, re.M), "a table is wider than the panel that it stands in"
    if language != "en":
        assert page != english


def short_name(display_name: str) -> str:
    """The node's name without the words that it is found by."""
    return re.split(r"\s?[:：]", display_name)[0]


def shape(page: str) -> list[str]:
    """The kinds of the lines that begin a heading or an item."""
    return re.findall(r"^(?:#+|-|!)(?= |\[)", page, re.M)


@pytest.mark.parametrize("language", sorted(LANGUAGES))
@pytest.mark.parametrize("node", sorted(INFO))
def test_bold_text_is_bold(node: str, language: str) -> None:
    """Markdown shows asterisks where bold text ends in punctuation and a letter follows."""
    page = (ROOT / "web" / "docs" / node / f"{language}.md").read_text(encoding="utf-8")
    for text, after in re.findall(r"\*\*(.+?)\*\*(.?)", page, re.S):
        assert text[-1].isalnum() or not after.isalnum(), text


def test_the_page_for_all_other_languages_is_the_english_one() -> None:
    docs = ROOT / "web" / "docs"
    for node in INFO:
        english = (docs / node / "en.md").read_text(encoding="utf-8")
        assert (docs / f"{node}.md").read_text(encoding="utf-8") == english


WORDS = (
    "deblur", "unblur", "low light", "brighten", "denoise", "sharpen", "dark", "exposure", "photo"
)  # fmt: skip


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_photos_come_before_videos_in_the_search(language: str) -> None:
    """Pages show the shortest name first of those that begin with what was typed."""
    photo, video = (
        texts(language)[f"DEvUDPRestore{kind}"]["display_name"] for kind in ("", "Video")
    )
    assert len(photo) < len(video)


COMPLAINTS = (
    "motion blur", "camera shake", "shaky", "unblur photo", "restoration", "underexposed", "night",
    "noise", "shaky video", "dark",
)  # fmt: skip
"""What people look for whose photo or video is bad."""


@pytest.mark.parametrize("word", WORDS)
def test_a_node_or_blueprint_is_called_what_people_look_for(word: str) -> None:
    """The search reads names only, and of them no word that begins after the 30th letter."""
    names = [info["display_name"] for info in INFO.values()]
    names += [path.stem for path in (ROOT / "subgraphs").glob("*.json")]
    assert any(0 <= name.lower().find(word) <= 30 for name in names)


def test_the_archive_has_what_a_user_needs_and_nothing_else() -> None:
    files = packed_files()
    tops = {path.parts[0] for path in files}
    wanted = {
        *("__init__.py", "nodes", "devudp_model", "web", "locales", "samples", "subgraphs"),
        "workflows",
    }
    assert wanted <= tops
    assert not {"tests", "training", "benchmarks", ".ci"} & tops
    assert {p.suffix for p in files if p.parts[0] == "samples"} == {".jpg", ".md"}
    assert {path.as_posix() for path in files} >= {
        f"devudp_model/weights/{variant}.safetensors" for variant in ("devudp", "devudp-dt")
    }
    size = sum((ROOT / path).stat().st_size for path in files)
    assert size < ARCHIVE_BYTES, f"{size:,} bytes"


@pytest.mark.parametrize(
    "path", [p for p in packed_files() if p.suffix == ".py"], ids=lambda p: p.as_posix()
)
def test_nothing_that_the_registry_refuses(path: Path) -> None:
    """No program is started, nothing is downloaded, no code is made from text or from pickles."""
    allowed = ONLY_TO_CATCH_ITS_ERRORS.get(path.as_posix(), set())
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        assert not ({name.split(".")[0] for name in names} & FORBIDDEN_MODULES) - allowed
    source = (ROOT / path).read_text(encoding="utf-8")
    assert "os.system" not in source and "weights_only=False" not in source


def test_no_widget_takes_a_path() -> None:
    for node in INFO:
        for kind in INFO[node]["input"].values():
            assert not any(spec[0] == "STRING" for spec in kind.values())
