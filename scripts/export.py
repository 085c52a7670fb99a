"""A checkpoint as a plain transformers folder (adapter merged), with an Ollama Modelfile beside it.

python scripts/export.py recipes/quickstart/export.yaml
python scripts/export.py recipes/solar/export.yaml --output_dir exports/solar
python scripts/export.py recipes/quickstart/export.yaml --interpolate_from outputs/quickstart/sft --interpolation 0.8
"""

from __future__ import annotations

import sys

from align_ko.errors import run_script
from align_ko.manifest import what_is_whole
from align_ko.process import lock_folder, quiet_known_noise
from align_ko.recipe import ExportRecipe, check_inputs, load_recipe


def main() -> None:
    quiet_known_noise()
    recipe = load_recipe(ExportRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)
    lock_folder(recipe.output_dir)

    from pathlib import Path

    from align_ko.manifest import remove_manifest, result_marks, write_manifest
    from align_ko.models.export import modelfile, save_model
    from align_ko.models.load import load_for_inference, load_interpolated
    from align_ko.models.source import model_source
    from align_ko.recipe import hash_inputs

    folder, inputs = Path(recipe.output_dir), hash_inputs(recipe)
    source = model_source(recipe.model_name_or_path, trust_remote_code=recipe.trust_remote_code)
    if recipe.interpolate_from:
        start = model_source(recipe.interpolate_from, trust_remote_code=recipe.trust_remote_code)
        model, tokenizer = load_interpolated(source, start, recipe.interpolation, recipe.dtype)
    else:
        model, tokenizer = load_for_inference(source, recipe.dtype)
    remove_manifest(folder)
    save_model(folder, model, tokenizer, source)
    for_ollama = modelfile(tokenizer)
    if for_ollama is not None:
        (folder / "Modelfile").write_text(for_ollama, encoding="utf-8")
    write_manifest(folder, recipe, inputs, stage="export", parent=recipe.model_name_or_path, files=result_marks(folder))
    print(f"saved {folder}: AutoModelForCausalLM.from_pretrained('{folder}')")
    if for_ollama is None:
        print("no Modelfile: this chat template is not ours; a GGUF conversion carries the one in chat_template.jinja")
    else:
        print("for Ollama, convert it to GGUF first, then: ollama create NAME -f Modelfile")


if __name__ == "__main__":
    run_script(main, what_is_whole)
