"""The server that processes of tests are forked from: quick, and without the threads of the process that tests."""

from __future__ import annotations

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
# All that is slow to import and that trainings load when they need it, as each process would load it anew; what is not
# installed is passed over. There is one server for a process that tests, so this is the one place that says it.
CONTEXT.set_forkserver_preload(
    [
        "headstart.cli.train",
        "headstart.train.run",
        "tests.train.dying",
        "tests.train.processes",
        "torch._dynamo",
        "transformers.models.bert.modeling_bert",
        "transformers.models.gpt2.modeling_gpt2",
        "transformers.models.llama.modeling_llama",
        "transformers.models.modernbert.modeling_modernbert",
        "transformers.models.qwen3.modeling_qwen3",
    ]
)
