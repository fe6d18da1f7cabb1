from airflow_mlops import pipeline_dag  # an Airflow DAG from a pipeline spec
dag = pipeline_dag("PIPELINE_NAME.yaml")
