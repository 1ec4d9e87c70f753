"""Models, tokenisers and configurations of transformers: from a local directory, or by Hugging Face Hub name.

Everything is read from a directory in the end. A Hub name becomes the directory of the local cache that holds its
files; only what is not there yet is downloaded, after one short request that shows whether the Hub answers, so a
machine without network fails in seconds and says which files to bring. What that trades away: a model in the cache is
not looked up again, so a newer revision is not noticed (which also keeps a run's start the same).

Weights are read from safetensors only, and no code from a model's directory is run.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

INSTALL_HINT = "backbones of transformers need pip install 'oxe-pipeline[train]'"
SETTINGS = ("*.json", "*.model", "*.txt", "*.jinja")
WEIGHTS = ("*.safetensors",)
NOT_NEEDED = ("*/*", "consolidated*")
"""Exports to other formats lie in subfolders; a second copy of the weights in one file is Mistral's."""
MODEL_FILES = "config.json, *.safetensors, tokenizer*.json and preprocessor_config.json as far as it has them"
WEIGHTS_INDEX = "model.safetensors.index.json"
GATED = ("google/gemma", "google/paligemma", "meta-llama/")
"""Beginnings of names that the Hub gives only to whoever accepted a licence: said when the Hub cannot be asked."""
ANSWER_WITHIN_S = 5.0


class BackboneError(ValueError):
    """A model that cannot be had, or does not fit what it is to be used for. One line."""


def load_config(source: str, parts: Path | None) -> Any:
    """Its PretrainedConfig. `source` is a directory or a Hub name; `parts` a folder of `save_parts`, read in its place.

    BackboneError for a source that is neither, or cannot be had.
    """
    transformers = import_transformers()
    folder = settings_folder(source, parts)
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BackboneError(f"{source}: config.json cannot be used: {one_line(error)}") from error
    config._name_or_path = ""  # Would name a directory of this machine in everything that is saved.
    return config


def load_model(auto_class: str, source: str, parts: Path | None, *, config: Any = None, **options: Any) -> nn.Module:
    """The model as `auto_class` ("AutoModel", "AutoModelForCausalLM" ...) makes it, in evaluation mode.

    With `parts` it has their architecture and random weights of torch's global generator, else those of `source`.
    `config` takes the place of the source's own: one part of it, or changed sizes. `options` are those of
    from_pretrained; dtype is float32 where not given. BackboneError for weights that are missing, or in another form
    than safetensors.
    """
    transformers = import_transformers()
    make = getattr(transformers, auto_class)
    options = {"dtype": torch.float32, **options}
    config = load_config(source, parts) if config is None else config
    if parts is not None:
        return make.from_config(config, trust_remote_code=False, **options).eval()
    folder = model_folder(source, weights=True)
    try:
        with quiet():
            model, found = make.from_pretrained(
                folder,
                config=config,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BackboneError(f"{source}: cannot be loaded by {auto_class}: {one_line(error)}") from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise BackboneError(
            f"{source}: its weights lack {len(missing)} tensors that {auto_class} needs, {missing[0]} among them; "
            "name a model of that kind, or repair its *.safetensors"
        )
    model.config._name_or_path = ""
    return model


def load_tokenizer(source: str, parts: Path | None) -> Any:
    """Its tokeniser. BackboneError as load_config."""
    transformers = import_transformers()
    folder = settings_folder(source, parts)
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BackboneError(
            f"{source}: its tokeniser cannot be used, tokenizer.json and tokenizer_config.json are wanted in {folder}: "
            f"{one_line(error)}"
        ) from error


def save_parts(folder: Path, *, config: Any, tokenizer: Any = None, image_inputs: Any = None) -> None:
    """Writes to `folder` what `parts` stands for above: config.json, tokeniser and image settings; no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    if image_inputs is not None:
        image_inputs.save(folder)


def settings_folder(source: str, parts: Path | None) -> Path:
    """The directory with config.json, tokeniser and image settings: `parts`, or the source's."""
    if parts is None:
        return model_folder(source, weights=False)
    if not (parts / "config.json").is_file():
        raise BackboneError(f"{parts}: no config.json; these are not the parts of a saved model")
    return parts


def model_folder(source: str, *, weights: bool) -> Path:
    """The local directory of a model, downloaded where need be. BackboneError where it cannot be had."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        if lacking := missing_files(folder, weights=weights):
            raise BackboneError(f"{source}: lacks {lacking}; {MODEL_FILES} must lie in this directory")
        return folder
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise BackboneError(
            f"{source!r} is neither a directory nor a Hub name (owner/model); give --backbone DIR, where DIR has "
            f"{MODEL_FILES}"
        )
    cached = _snapshot(source, weights=weights, local_files_only=True)
    if cached is not None and not missing_files(cached, weights=weights):
        return cached
    _ask_hub(source)
    folder = _snapshot(source, weights=weights, local_files_only=False) or folder
    if lacking := missing_files(folder, weights=weights):
        raise BackboneError(f"{source}: lacks {lacking} on the Hub; only models with {MODEL_FILES} can be used")
    return folder


def missing_files(folder: Path, *, weights: bool) -> str:
    """What a model directory lacks, in words; "" for a complete one. Tokeniser and image settings are not counted: not
    every model has them."""
    if not (folder / "config.json").is_file():
        return "config.json"
    if not weights:
        return ""
    index = folder / WEIGHTS_INDEX
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return ", ".join(shard for shard in shards if not (folder / shard).is_file())
    return "" if (folder / "model.safetensors").is_file() else "model.safetensors"


def import_transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise ImportError(INSTALL_HINT) from None
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports of weights left over, which are left over on purpose."""
    logging = import_transformers().utils.logging
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _snapshot(name: str, *, weights: bool, local_files_only: bool) -> Path | None:
    """The cache's directory of a Hub name; None where the cache has nothing and `local_files_only`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    patterns = [*SETTINGS, *(WEIGHTS if weights else ())]
    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=patterns,
                ignore_patterns=list(NOT_NEEDED),
                local_files_only=local_files_only,
            )
        )
    except HFValidationError as error:
        raise BackboneError(f"{name!r} is neither a directory nor a Hub name: {one_line(error)}") from error
    except LocalEntryNotFoundError as error:
        if local_files_only:
            return None
        raise _unreachable(name, error) from error


def _ask_hub(name: str) -> None:
    """One request without a second try: the library's own would take half a minute to give up."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(name, timeout=ANSWER_WITHIN_S)
        if info.gated:
            HfApi().auth_check(name)
    except GatedRepoError as error:
        raise BackboneError(
            f"{name}: gated; accept its licence at https://huggingface.co/{name} and log in with `hf auth login`, or "
            f"place {MODEL_FILES} into a directory DIR and give --backbone DIR"
        ) from error
    except RepositoryNotFoundError as error:
        raise BackboneError(
            f"{name}: neither a directory nor a model of the Hub that this login may see; see "
            f"https://huggingface.co/{name}"
        ) from error
    except HfHubHTTPError as error:
        raise _unreachable(name, error) from error
    except Exception as error:  # Which error a network that is down gives is the HTTP library's matter.
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests") or isinstance(error, OSError):
            raise _unreachable(name, error) from error
        raise


def _unreachable(name: str, error: Exception) -> BackboneError:
    gated = " (gated: accept its licence on its page first)" if name.startswith(GATED) else ""
    return BackboneError(
        f"{name}: not in the local cache, and the Hugging Face Hub cannot be reached ({one_line(error)}); where it "
        f"can{gated}, run `hf download {name} --local-dir DIR`, copy DIR here ({MODEL_FILES}) and give "
        "--backbone DIR"
    )


def one_line(error: Exception) -> str:
    """The beginning of what an error says, for a message of ours."""
    return " ".join(str(error).split())[:200]
