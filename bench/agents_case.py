from bench.everything import CONTENDERS
YARDSTICK="nginx"
def run(plan): pass
