"""Sphinx's settings. The sources are those that stage.py writes; `make site` runs it all (tools/site/build.py)."""

project = "xattn_edu"
author = "xattn_edu authors"
copyright = "xattn_edu authors; code and text: MIT"
html_title = "xattn_edu"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "markup"]
root_doc = "index"
exclude_patterns = ["_static"]

# Notebooks and Markdown. Notebooks are shown as they are stored.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "tasklist"]
myst_dmath_double_inline = True  # a formula between lines of a paragraph, as Jupyter shows it
myst_heading_anchors = 3
myst_heading_slug_func = "markup.slug"
smartquotes = False
highlight_language = "none"  # of code that does not name its language: commands
html_math_renderer = "katex"

# The reference. Shapes in signatures are short: Float[Tensor, "batch query dim"].
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
viewcode_follow_imported_members = False  # an object is described where it is defined
add_module_names = False
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_theme_options = {
    "show_navbar_depth": 1,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],
    "collapse_navbar": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
html_css_files = ["site.css"]
html_sidebars = {"_modules/**": []}  # the source of a module is no page to go on from
templates_path = ["templates"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_last_updated_fmt = None
