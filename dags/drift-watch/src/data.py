# SPDX-License-Identifier: Apache-2.0
"""Make what a real pipeline would import: rows as they were when the first model was trained, and rows as they arrive now."""

import os

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

data = load_breast_cancer(as_frame=True).frame
# The data set says 0 for malignant; what is looked for is better called 1.
data["malignant"] = 1 - data.pop("target")
seed = int(os.environ["MLOPS_PARAM_SEED"])
reference, current = train_test_split(data, test_size=0.5, stratify=data["malignant"], random_state=seed)

# Another microscope: it shows everything larger, by so many standard deviations.
shift = float(os.environ["MLOPS_PARAM_SHIFT"])
sizes = [name for name in current.columns if "radius" in name or "perimeter" in name or "area" in name]
current[sizes] += shift * reference[sizes].std()

reference.to_csv(os.environ["MLOPS_OUTPUT_REFERENCE"], index=False)
current.to_csv(os.environ["MLOPS_OUTPUT_CURRENT"], index=False)
print(
    f"{len(reference)} rows to compare with, {len(current)} that have arrived, shifted by {shift:g} standard deviations"
)
