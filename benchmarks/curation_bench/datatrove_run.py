"""datatrove's filters and MinHash over a folder of documents. Runs under .venv-bench, which has datatrove and not align_ko.

    .venv-bench/bin/python benchmarks/curation_bench/datatrove_run.py DOCUMENTS OUTPUT

DOCUMENTS holds one JSONL file per worker with {"text", "id"}. OUTPUT gets result.json: seconds by step, and the ids that
each step dropped. The steps run one after the other, as datatrove's own examples do: filters, then MinHash on what is left.

Settings. Words and filters for Korean are those of FineWeb-2 (huggingface/fineweb-2, configs/kor_Hang.yml), whose words
are Kiwi's morphemes; they read whole web pages, our rows are shorter, so `min_doc_words` is 15 instead of 50. MinHash is
as it comes: 5-grams of words, 14 buckets of 8 hashes (about 0.75 similarity).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

WORKERS = 2
LANGUAGE = "kor_Hang"
STOP_WORDS = "의 다 이 는 에 을 한 년 하 은 를 했 고 에서 가 있 으로 인 월 로 되".split()
REPETITION = {
    "dup_line_frac": 0.374,
    "top_n_grams": ((2, 0.282), (3, 0.228), (4, 0.185)),
    "dup_n_grams": ((5, 0.201), (6, 0.184), (7, 0.168), (8, 0.154), (9, 0.14), (10, 0.127)),
}
QUALITY = {
    "min_doc_words": 15,
    "min_avg_word_length": 1,
    "max_avg_word_length": 6,
    "max_non_alpha_words_ratio": 0.791,
    "stop_words": STOP_WORDS,
}


def main(documents: Path, output: Path) -> None:
    config = MinhashConfig()
    kept, signatures, buckets, clusters = (str(output / name) for name in ("kept", "signatures", "buckets", "clusters"))

    def dropped(name: str) -> JsonlWriter:
        return JsonlWriter(str(output / "dropped" / name), compression=None)

    steps = {
        "gopher filters": [
            JsonlReader(str(documents)),
            GopherRepetitionFilter(**REPETITION, language=LANGUAGE, exclusion_writer=dropped("repetition")),
            GopherQualityFilter(**QUALITY, language=LANGUAGE, exclusion_writer=dropped("quality")),
            JsonlWriter(kept, compression=None),
        ],
        "minhash signatures": [JsonlReader(kept), MinhashDedupSignature(signatures, config, language=LANGUAGE)],
        "minhash buckets": [MinhashDedupBuckets(signatures, buckets, config=config)],
        "minhash clusters": [MinhashDedupCluster(buckets, clusters, config=config)],
        "minhash filter": [
            JsonlReader(kept),
            MinhashDedupFilter(clusters, exclusion_writer=dropped("minhash")),
            JsonlWriter(str(output / "left"), compression=None),
        ],
    }
    tasks = {"minhash buckets": config.num_buckets, "minhash clusters": 1}
    seconds = {}
    for name, pipeline in steps.items():
        begin = time.perf_counter()
        logs = str(output / "logs" / name)
        LocalPipelineExecutor(pipeline, tasks=tasks.get(name, WORKERS), workers=WORKERS, logging_dir=logs).run()
        seconds[name] = time.perf_counter() - begin
    found = {name: ids(output / "dropped" / name) for name in ("repetition", "quality", "minhash")}
    result = {"seconds": seconds, "dropped": found}
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


def ids(folder: Path) -> dict[str, str]:
    """Id → the rule that the document broke ("" where MinHash dropped it)."""
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                found[row["id"]] = row["metadata"].get("filter_reason", "")
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
