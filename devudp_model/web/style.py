"""Styles the page: colours with enough contrast, fonts of the machine."""

# pyright: reportMissingImports=false
# gradio is optional: the extra "web".

from __future__ import annotations

from typing import Any

import gradio as gr

FONTS = ["system-ui", "sans-serif"]
"""Of the machine: the library's own themes would load theirs from the network."""

CSS = """
.compare .images {position: relative; overflow: auto; max-height: 75vh; border-radius: 8px}
.compare.fitted img {width: 100%; height: auto; max-height: 75vh; object-fit: contain}
.compare.full img {max-width: none; width: auto; height: auto}
.compare img {display: block}
.compare img.after {position: absolute; top: 0; left: 0; clip-path: inset(0 0 0 var(--at))}
.compare .images {display: grid; justify-items: start}
.compare .images > * {grid-area: 1 / 1}
.compare .line {position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none}
.compare.full .line {display: none}
.compare input[type=range] {width: 100%; margin: 0}
.compare label span {font-size: .9rem}
#result {min-height: 9rem; scroll-margin: 1rem}
.empty {padding: 3rem 1rem; text-align: center; border: 1px dashed; border-radius: 8px}
.devudp-note {font-size: .95rem}
#photos [title="common.upload"] {display: none}  /* a button within a button, without a name */
#photos a {color: inherit}
"""


def theme() -> Any:
    """Fonts of the machine only."""
    soft = gr.themes.Soft(  # pyright: ignore[reportPrivateImportUsage]
        font=FONTS, font_mono=["monospace"]
    )
    return soft.set(  # the theme's own have too little contrast
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        checkbox_label_background_fill_selected="*primary_600",
        checkbox_label_background_fill_selected_dark="*primary_600",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        block_label_text_color="*primary_700",
        block_title_text_color="*primary_700",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
    )
