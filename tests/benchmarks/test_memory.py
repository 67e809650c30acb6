from benchmarks.memory import write_params
from flows.params import Study


def test_the_study_is_one_that_the_stages_accept():
    study = Study.model_validate(write_params())
    assert study.imports["big"].format == "small_cnn_zoo"
    assert study.hyperrep["big"].weights == study.weights["big"].zoo == "big"
