from support.langchain_agents import new_workspace as new_workspace
