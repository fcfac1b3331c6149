"""Writes models as teams make them: with scikit-learn, LightGBM, XGBoost and CatBoost, exported with the defaults of
their converters. Argument: a folder. For each model NAME it writes NAME.onnx and NAME.json: {"inputs", "requests",
"classes"}: the names of the inputs, requests of one row each out of the data, and the classes of a map, in order.
What is not installed is left out.
"""

import base64
import json
import os
import sys
import warnings

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (GradientBoostingClassifier, IsolationForest, RandomForestClassifier,
                              RandomForestRegressor)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

warnings.filterwarnings("ignore")
folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
opset = {"": 17, "ai.onnx.ml": 3}
x, y = load_iris(return_X_y=True)
x = x.astype(np.float32)
names = load_iris().target_names[y]
dx, dy = load_diabetes(return_X_y=True)
dx = dx.astype(np.float32)
rows = [0, 60, 110, 149, 77, 30]


def told(array):
    if array.dtype.kind in "OU":
        return {"dtype": "string", "dims": list(array.shape), "texts": [str(text) for text in array.flatten()]}
    return {"dtype": array.dtype.name, "dims": list(array.shape), "bytes": base64.b64encode(array.tobytes()).decode()}


def write(name, model, requests, classes=None):
    with open(os.path.join(folder, name + ".onnx"), "wb") as file:
        file.write(model.SerializeToString() if hasattr(model, "SerializeToString") else model)
    told_requests = [{key: told(value) for key, value in request.items()} for request in requests]
    about = {"inputs": list(requests[0]), "requests": told_requests, "classes": classes}
    with open(os.path.join(folder, name + ".json"), "w") as file:
        json.dump(about, file)


def one_by_one(name, data=x):
    return [{name: data[i:i + 1]} for i in rows]


def of_sklearn(name, model, data=x, target=y, has_maps=True, **options):
    """A model of numbers, exported as the documentation of skl2onnx does it."""
    model.fit(data, target)
    classes = model.classes_.tolist() if hasattr(model, "classes_") and has_maps else None
    write(name, to_onnx(model, data[:1], target_opset=opset, **options), one_by_one("X", data), classes)


def plain(model):
    return {"has_maps": False, "options": {id(model): {"zipmap": False}}}


of_sklearn("logistic regression", LogisticRegression(max_iter=500))
of_sklearn("logistic regression of texts", LogisticRegression(max_iter=500), target=names)
of_sklearn("random forest", RandomForestClassifier(20, random_state=0))
forest = RandomForestClassifier(20, random_state=0)
of_sklearn("random forest without ZipMap", forest, **plain(forest))
boosting = GradientBoostingClassifier(n_estimators=20, random_state=0)
of_sklearn("gradient boosting in columns", boosting, has_maps=False, options={id(boosting): {"zipmap": "columns"}})
of_sklearn("support vectors", SVC(probability=True, random_state=0))
of_sklearn("nearest neighbours", KNeighborsClassifier())
of_sklearn("naive Bayes of texts", GaussianNB(), target=names)
of_sklearn("network", MLPClassifier((16,), max_iter=300, random_state=0))
of_sklearn("scaler and regression", make_pipeline(StandardScaler(), LogisticRegression()), target=names)
of_sklearn("linear regression", LinearRegression(), dx, dy)
of_sklearn("forest regression", RandomForestRegressor(20, random_state=0), dx, dy)
of_sklearn("clusters", KMeans(3, n_init=1, random_state=0))
of_sklearn("components", PCA(2))
isolation = IsolationForest(n_estimators=20, random_state=0).fit(x)
write("isolation forest", to_onnx(isolation, x[:1], target_opset=opset), one_by_one("X"))

colours = np.array([["red", "S"], ["green", "M"], ["blue", "L"], ["green", "S"], ["red", "L"]], dtype=object)
encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(colours)
asked = np.vstack([colours, [["mauve", "né"]]]).astype(object)
write("one-hot of texts", to_onnx(encoder, initial_types=[("X", StringTensorType([None, 2]))], target_opset=opset),
      [{"X": asked[i:i + 1]} for i in range(len(asked))])

plans = np.array(["free", "pro", "team"], dtype=object)[y].reshape(-1, 1)
visits = (x[:, 1:2] * 10).astype(np.int64)
columns = ColumnTransformer([("numbers", StandardScaler(), [0, 1]), ("plan", OneHotEncoder(handle_unknown="ignore"), [2])])
table = np.hstack([x[:, :1].astype(object), visits.astype(object), plans])
churn = make_pipeline(columns, LogisticRegression()).fit(table, np.array(["stays", "leaves"])[(x[:, 2] > 3).astype(int)])
types = [("age", FloatTensorType([None, 1])), ("visits", Int64TensorType([None, 1])), ("plan", StringTensorType([None, 1]))]
write("columns of several types", to_onnx(churn, initial_types=types, target_opset=opset),
      [{"age": x[i:i + 1, :1], "visits": visits[i:i + 1], "plan": plans[i:i + 1]} for i in rows], churn.classes_.tolist())

letters = ["good fast server", "bad slow thing", "fast and good", "slow and bad", "good good", "thing"]
opinion = make_pipeline(TfidfVectorizer(lowercase=False), LogisticRegression()).fit(letters, ["yes", "no", "yes", "no", "yes", "no"])
write("words of a text", to_onnx(opinion, initial_types=[("X", StringTensorType([None, 1]))], target_opset=opset),
      [{"X": np.array([[letter]], dtype=object)} for letter in letters], opinion.classes_.tolist())


def of_lightgbm():
    import lightgbm as lgb
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType as Floats
    types = [("X", Floats([None, 4]))]
    model = lgb.LGBMClassifier(n_estimators=10, verbose=-1).fit(x, y)
    write("LightGBM classifier", convert_lightgbm(model, initial_types=types, target_opset=15), one_by_one("X"), model.classes_.tolist())
    model = lgb.LGBMRegressor(n_estimators=10, verbose=-1).fit(dx, dy)
    write("LightGBM regressor", convert_lightgbm(model, initial_types=[("X", Floats([None, 10]))], target_opset=15), one_by_one("X", dx))


def of_xgboost():
    import xgboost as xgb
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType as Floats
    model = xgb.XGBClassifier(n_estimators=10).fit(x, y)
    write("XGBoost classifier", convert_xgboost(model, initial_types=[("X", Floats([None, 4]))], target_opset=15), one_by_one("X"))
    model = xgb.XGBRegressor(n_estimators=10).fit(dx, dy)
    write("XGBoost regressor", convert_xgboost(model, initial_types=[("X", Floats([None, 10]))], target_opset=15), one_by_one("X", dx))


def of_catboost():
    import catboost as cat
    for name, target in (("CatBoost classifier", y), ("CatBoost classifier of texts", names)):
        model = cat.CatBoostClassifier(iterations=10, verbose=0, allow_writing_files=False).fit(x, target)
        save(name, model, x, model.classes_.tolist())
    model = cat.CatBoostClassifier(iterations=10, verbose=0, allow_writing_files=False).fit(x, (y > 0).astype(int))
    save("CatBoost classifier of two", model, x, model.classes_.tolist())
    model = cat.CatBoostRegressor(iterations=10, verbose=0, allow_writing_files=False).fit(dx, dy)
    save("CatBoost regressor", model, dx)


def save(name, model, data, classes=None):
    path = os.path.join(folder, name + ".part")
    model.save_model(path, format="onnx")
    with open(path, "rb") as file:
        written = file.read()
    os.remove(path)
    write(name, written, one_by_one("features", data), classes)


for make in (of_lightgbm, of_xgboost, of_catboost):
    try:
        make()
    except Exception as error:
        print("left out:", make.__name__, type(error).__name__, str(error)[:300])
