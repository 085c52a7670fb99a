"""A checkpoint as a plain transformers folder (adapter merged), with an Ollama Modelfile and GGUF files beside it.

python scripts/export.py recipes/quickstart/export.yaml
python scripts/export.py recipes/quickstart/export.yaml --gguf '[F16, Q8_0, Q4_K_M]'
python scripts/export.py --verify outputs/quickstart/export          (does it still answer as the checkpoint did?)
python scripts/export.py recipes/quickstart/export.yaml --interpolate_from outputs/quickstart/sft --interpolation 0.8
"""

from __future__ import annotations

import runpy
import sys

from align_ko.errors import run_script
from align_ko.manifest import what_is_whole
from align_ko.process import lock_folder, quiet_known_noise
from align_ko.recipe import ExportRecipe, check_inputs, load_recipe
from align_ko.sources import folder_of


def main() -> None:
    if "--verify" in sys.argv:
        sys.argv.remove("--verify")
        runpy.run_path(str(folder_of("scripts") / "verify_export.py"), run_name="__main__")
        return
    quiet_known_noise()
    recipe = load_recipe(ExportRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)
    lock_folder(recipe.output_dir)

    from pathlib import Path

    from align_ko.manifest import read_manifest, remove_manifest, result_marks, write_manifest
    from align_ko.models.export import save_model
    from align_ko.models.gguf import write_gguf
    from align_ko.models.load import load_for_inference, load_interpolated, load_mean
    from align_ko.models.ollama import modelfile
    from align_ko.models.source import model_source
    from align_ko.recipe import hash_inputs

    folder, inputs = Path(recipe.output_dir), hash_inputs(recipe)
    source = model_source(recipe.model_name_or_path, trust_remote_code=recipe.trust_remote_code)
    if recipe.interpolate_from:
        start = model_source(recipe.interpolate_from, trust_remote_code=recipe.trust_remote_code)
        model, tokenizer = load_interpolated(source, start, recipe.interpolation, recipe.dtype, recipe.spherical)
    elif recipe.mean_with:
        others = (model_source(path, trust_remote_code=recipe.trust_remote_code) for path in recipe.mean_with)
        model, tokenizer = load_mean([source, *others], recipe.dtype)
    else:
        model, tokenizer = load_for_inference(source, recipe.dtype)
    for name in read_manifest(folder).get("beside", ()):
        (folder / name).unlink(missing_ok=True)  # of other weights
    remove_manifest(folder)
    save_model(folder, model, tokenizer, source)
    del model  # the converter reads the saved one
    written = write_gguf(folder, recipe.gguf, tokenizer) if recipe.gguf else []
    for_ollama = modelfile(tokenizer, f"./{written[0].name}" if written else ".")
    beside = [file.name for file in written] + ["Modelfile"] * (for_ollama is not None)
    if for_ollama is not None:
        (folder / "Modelfile").write_text(for_ollama, encoding="utf-8")
    marks, parent = result_marks(folder), recipe.model_name_or_path
    write_manifest(folder, recipe, inputs, stage="export", parent=parent, files=marks, beside=beside)
    print(f"saved {folder}: AutoModelForCausalLM.from_pretrained('{folder}')")
    for file in written:
        print(f"{file}: {file.stat().st_size / 2**20:.0f} MiB")
    if for_ollama is None:
        print("no Modelfile: this chat template is more than turns between fixed texts; a GGUF file carries it as it is")
    else:
        print(f"for Ollama: cd {folder} && ollama create NAME -f Modelfile")


if __name__ == "__main__":
    run_script(main, what_is_whole)
