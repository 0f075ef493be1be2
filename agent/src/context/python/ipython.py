"""IPython's own functions, which print where no shell of its own runs, made ours."""

import sys

HOMES = ("IPython.core.display_functions", "IPython.core.display")  # newer versions, older ones
OURS = (display, update_display, publish_display_data, clear_output)


class Finder:
    """Replaces them in the moment the user imports them: IPython takes long to load."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in HOMES:
            return None
        others = (finder for finder in sys.meta_path if finder is not Finder)
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_replace(module):
                load(module)
                for function in OURS:
                    if hasattr(module, function.__name__):
                        setattr(module, function.__name__, function)

            spec.loader.exec_module = load_and_replace
        return spec


sys.meta_path.insert(0, Finder)
