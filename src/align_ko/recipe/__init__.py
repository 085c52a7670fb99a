"""Recipes: one frozen record per stage, and `load_recipe`, which reads one from YAML and flags. Options have TRL's or
transformers' names where these have one. Without torch."""

from align_ko.recipe.data import DataRecipe, LengthBounds, NearDuplicateArgs, Selection, SourceArgs
from align_ko.recipe.evaluation import (
    SUITES,
    AcceptanceArgs,
    AlignRecipe,
    DistillStageArgs,
    EvaluateRecipe,
    ExportRecipe,
    GridArgs,
    MergeRecipe,
    RoundArgs,
    StageArgs,
    suite_files,
)
from align_ko.recipe.grpo import GrpoRecipe, RewardArgs
from align_ko.recipe.load import (
    changed,
    check_inputs,
    check_values,
    hash_inputs,
    load_recipe,
    place_of,
    recipe_error,
    recipe_from,
    recipe_of,
)
from align_ko.recipe.preferences import (
    SYNTHETIC_FAULTS,
    CandidateArgs,
    DecodingArgs,
    EndpointArgs,
    GenerationArgs,
    JudgeEndpointArgs,
    JudgesArgs,
    JudgeServerArgs,
    JudgeWeights,
    LikelihoodArgs,
    LlmJudgeArgs,
    PairingArgs,
    PreferencesRecipe,
    RewardModelArgs,
    Server,
)
from align_ko.recipe.record import Recipe
from align_ko.recipe.training import (
    DistillArgs,
    DpoRecipe,
    EarlyStopping,
    GateArgs,
    ModelArgs,
    Resume,
    SftRecipe,
    StartModelArgs,
    TrainData,
)
